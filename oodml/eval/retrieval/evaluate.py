"""How well an embedding retrieves images of the query's class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oodml.errors import DataError, unknown_name
from oodml.eval.retrieval.clustering import CLUSTERING_METRICS, score_clusters
from oodml.eval.retrieval.exact_ranks import Depth, Samples, positive_ranks
from oodml.eval.retrieval.metrics import Metric, Ranking, descriptions, find_metric
from oodml.features.features import Features

DEFAULT_METRICS = (
    "recall_at_1",
    "recall_at_2",
    "recall_at_4",
    "recall_at_8",
    "r_precision",
    "mean_average_precision_at_r",
)


def metric_names() -> list[tuple[str, str]]:
    """The metrics of `evaluate`, each with a one-line description; K stands for any number."""
    return [*descriptions(), *CLUSTERING_METRICS.items()]


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
    nothing is left out, and classes are matched by name. `nmi` and `f1` cluster the queries, with
    or without a gallery. Also counted, if a retrieval metric is asked for: `queries`,
    `queries_left_out` (no other sample of their class is there to be found) and `queries_tied`
    (within the ranks looked at, samples of their class and of others are exactly as near; the
    score is then the exact expectation over their order, so a collapsed embedding scores what
    chance gives).
    `memory` bounds the bytes that retrieval uses and moves no score. Raises `UsageError` for an
    unknown metric, `DataError` if the dimensions differ, all samples are of one class or no query
    is left.
    """
    clustering = [name for name in metrics if name in CLUSTERING_METRICS]
    task = retrieval_task(query, gallery, [name for name in metrics if name not in clustering])
    scores: dict[str, float] = {}
    if task.metrics:
        blocks = positive_ranks(
            task.query, task.gallery, depth=task.depth, memory=memory, device=device
        )
        scores = mean_scores(blocks, task)
    if clustering:
        scores |= score_clusters(query, clustering)
    return {name: scores[name] for name in metrics} | scores


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Checked samples, how many positives (n,) each query has, and what is to be measured."""

    query: Samples
    gallery: Samples | None
    positives: Tensor
    metrics: Mapping[str, Metric]

    @property
    def depth(self) -> Depth:
        """How deep the metrics look for each query."""
        first = rest = torch.zeros_like(self.positives)
        for metric in self.metrics.values():
            depth = metric.depth(self.positives)
            first = torch.maximum(first, depth)
            rest = rest if metric.first_only else torch.maximum(rest, depth)
        return Depth(first, rest)


def retrieval_task(
    query: Features, gallery: Features | None, metrics: Sequence[str]
) -> RetrievalTask:
    """What `evaluate` is asked to do, checked; its errors are those of `evaluate`."""
    chosen = {name: _metric(name) for name in metrics}
    _check(query, gallery)
    labels, gallery_labels = _labels(query, gallery)
    positives = torch.bincount(gallery_labels, minlength=int(labels.max()) + 1)[labels]
    found = None
    if gallery is None:
        positives = positives - 1
    else:
        found = Samples(torch.from_numpy(gallery.values), gallery_labels)
    if not positives.any():
        raise DataError(
            f"{query.source.dataset}: none of {len(labels)} queries has another sample of its "
            "class to be found. Retrieval needs at least two samples in a class."
        )
    return RetrievalTask(Samples(torch.from_numpy(query.values), labels), found, positives, chosen)


def mean_scores(blocks: Iterable[Ranking], task: RetrievalTask) -> dict[str, float]:
    """The means over all queries with positives, and how many these are, left out and tied."""
    kept = task.positives > 0
    scores = {name: torch.zeros(len(kept), dtype=torch.float64) for name in task.metrics}
    tied = 0
    for ranking in blocks:
        tied += int(ranking.tied.sum())
        rows = ranking.query.cpu()
        for name, metric in task.metrics.items():
            scores[name][rows] = metric.score(ranking).cpu()
    queries = int(kept.sum())
    return {
        # NumPy adds on one thread, in one order.
        **{name: float(values[kept].numpy().mean()) for name, values in scores.items()},
        "queries": queries,
        "queries_left_out": len(kept) - queries,
        "queries_tied": tied,
    }


def _check(query: Features, gallery: Features | None) -> None:
    present = {query.class_names[label] for label in set(query.labels.tolist())}
    if gallery is not None:
        present |= {gallery.class_names[label] for label in set(gallery.labels.tolist())}
    if len(present) < 2:
        raise DataError(
            f"{query.source.dataset}: all {len(query)} queries and whatever they can find are of "
            f"the class {min(present)!r}. Give samples of two classes or more."
        )


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
    metric = find_metric(name)
    if metric is None:
        raise unknown_name("metric", name, [known for known, _ in metric_names()])
    return metric
