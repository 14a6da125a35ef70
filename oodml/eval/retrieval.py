"""How well an embedding retrieves images of the query's class."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from oodml.errors import DataError, unknown_name
from oodml.eval.neighbors import Neighbors, nearest_neighbors
from oodml.eval.ranking import Ranking, ranking_of
from oodml.fid.features import Features

Metric = Callable[[Ranking], Tensor]

DEFAULT_METRICS = (
    "recall_at_1",
    "recall_at_2",
    "recall_at_4",
    "recall_at_8",
    "r_precision",
    "mean_average_precision_at_r",
)


def precision_at_1(ranking: Ranking) -> Tensor:
    """The share of queries whose nearest neighbour has their class."""
    return ranking.expected_hit()[:, 0]


def recall_at_k(ranking: Ranking, k: int) -> Tensor:
    """The share of queries with at least one image of their class among the k nearest.

    This is recall in the sense of deep metric learning (arXiv:1511.06452).
    """
    return ranking.chance_of_hit(k)


def r_precision(ranking: Ranking) -> Tensor:
    """The share of the query's class among its R nearest, R being all there are to be found.

    arXiv:2003.08505.
    """
    hits = ranking.expected_hit() * ranking.within(ranking.positives)
    return hits.sum(1) / ranking.positives


def mean_average_precision_at_r(ranking: Ranking) -> Tensor:
    """The mean of precision at i over ranks i = 1..R, counted where rank i is a hit.

    R is the number of gallery images of the query's class, the query itself not counted
    (arXiv:2003.08505); the published study of this field divides by R + 1 instead.
    """
    hits = ranking.expected_precision_at_hit() * ranking.within(ranking.positives)
    return hits.sum(1) / ranking.positives


_RECALL = re.compile(r"recall_at_([1-9][0-9]{0,8})")
_TO_R: dict[str, Metric] = {
    "r_precision": r_precision,
    "mean_average_precision_at_r": mean_average_precision_at_r,
}


def metric_names() -> list[tuple[str, str]]:
    """The retrieval metrics, each with a one-line description."""
    metrics = {"precision_at_1": precision_at_1, "recall_at_K": recall_at_k, **_TO_R}
    return [(name, (metric.__doc__ or "").split("\n")[0]) for name, metric in metrics.items()]


def evaluate(
    query: Features,
    gallery: Features | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    memory: int = 1 << 30,
    device: torch.device | str | None = None,
) -> dict[str, float]:
    """The mean of each metric over the queries, by cosine similarity of L2-normalised vectors.

    Without a gallery every sample is a query against all others, left out by its index. With one,
    nothing is left out, and classes are matched by name. Also counted: `queries`,
    `queries_left_out` (no other sample of their class is there to be found) and `queries_tied`
    (samples of their class and of others are exactly as near; the score is then the exact
    expectation over their order, so a collapsed embedding scores what chance gives).
    `memory` bounds the bytes used and moves no score. Raises `UsageError` for an unknown metric,
    `DataError` if the dimensions differ or no query is left.
    """
    chosen = {name: _metric(name) for name in metrics}
    labels, gallery_labels = _labels(query, gallery)
    positives = torch.bincount(gallery_labels, minlength=int(labels.max()) + 1)[labels]
    if gallery is None:
        positives = positives - 1
    if not positives.any():
        raise DataError(
            f"{query.source.dataset}: none of {len(labels)} queries has another sample of its "
            "class to be found. Retrieval needs at least two samples in a class."
        )
    rows = torch.from_numpy(query.values)
    columns = None if gallery is None else torch.from_numpy(gallery.values)
    available = len(labels) - 1 if gallery is None else len(gallery_labels)
    blocks = nearest_neighbors(
        rows,
        labels,
        columns,
        gallery_labels,
        k=min(max(_depth(int(positives.max()), name) for name in chosen), available),
        memory=memory,
        device=device,
    )
    return _mean_scores(blocks, positives, chosen)


def _mean_scores(
    blocks: Iterable[Neighbors], positives: Tensor, metrics: Mapping[str, Metric]
) -> dict[str, float]:
    scores: dict[str, list[Tensor]] = {name: [] for name in metrics}
    tied = 0
    for block in blocks:
        found = positives[block.first : block.first + len(block.index)].to(block.index.device)
        ranking = ranking_of(block, found)
        kept = found > 0
        tied += int(ranking.tied[kept].sum())
        for name, metric in metrics.items():
            scores[name].append(metric(ranking)[kept].cpu())
    queries = int((positives > 0).sum())
    means = {name: float(torch.cat(parts).mean()) for name, parts in scores.items()}
    return {
        **means,
        "queries": queries,
        "queries_left_out": len(positives) - queries,
        "queries_tied": tied,
    }


def _labels(query: Features, gallery: Features | None) -> tuple[Tensor, Tensor]:
    """Labels that agree between query and gallery, whose classes are matched by name."""
    own = torch.from_numpy(query.labels)
    if gallery is None:
        return own, own
    if query.values.shape[1] != gallery.values.shape[1]:
        raise DataError(
            f"the queries have {query.values.shape[1]} dimensions and the gallery has "
            f"{gallery.values.shape[1]}; embed both with the same network."
        )
    names = {name: label for label, name in enumerate(query.class_names)}
    shared = [names.setdefault(name, len(names)) for name in gallery.class_names]
    return own, torch.tensor(shared, dtype=torch.int64)[torch.from_numpy(gallery.labels)]


def _metric(name: str) -> Metric:
    if name == "precision_at_1":
        return precision_at_1
    if name in _TO_R:
        return _TO_R[name]
    recall = _RECALL.fullmatch(name)
    if recall is None:
        raise unknown_name("metric", name, [known for known, _ in metric_names()])
    return partial(recall_at_k, k=int(recall[1]))


def _depth(largest: int, name: str) -> int:
    """How many neighbours the metric looks at, where classes have up to `largest` positives."""
    recall = _RECALL.fullmatch(name)
    return int(recall[1]) if recall else largest if name in _TO_R else 1
