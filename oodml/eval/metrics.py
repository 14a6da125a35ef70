"""Retrieval metrics by name: what each is worth to a query, and how deep it looks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from oodml.eval.ranking import Ranking

EVERYTHING = 1 << 40


@dataclass(frozen=True)
class Metric:
    """A score per query of a `Ranking`, and the rank up to which it looks.

    `depth` gets the numbers of positives (n,) and gives ranks (n,). `first_only` says that the
    nearest positive alone decides.
    """

    score: Callable[[Ranking], Tensor]
    depth: Callable[[Tensor], Tensor]
    first_only: bool = False


def precision_at_1(ranking: Ranking) -> Tensor:
    """The share of queries whose nearest neighbour has their class."""
    return ranking.chance_of_hit(1)


def recall_at_k(ranking: Ranking, k: int) -> Tensor:
    """The share of queries with at least one image of their class among the K nearest.

    This is recall in the sense of deep metric learning (arXiv:1511.06452).
    """
    return ranking.chance_of_hit(k)


def r_precision(ranking: Ranking) -> Tensor:
    """The share of the query's class among its R nearest, R being all there are to be found.

    arXiv:2003.08505.
    """
    return ranking.hits_within(ranking.positives) / ranking.positives


def mean_average_precision_at_r(ranking: Ranking) -> Tensor:
    """Precision at rank i, summed over ranks i = 1..R that are hits, divided by R.

    R is the number of gallery images of the query's class, the query itself not counted
    (arXiv:2003.08505).
    """
    return ranking.precision_within(ranking.positives) / ranking.positives


def mean_average_precision(ranking: Ranking) -> Tensor:
    """Precision at rank i, summed over all ranks i that are hits, divided by R.

    The whole gallery is ranked: the average precision of information retrieval.
    """
    everything = torch.full_like(ranking.positives, EVERYTHING)
    return ranking.precision_within(everything) / ranking.positives


def mean_average_precision_at_k(ranking: Ranking, k: int) -> Tensor:
    """Precision at rank i, summed over ranks i = 1..K that are hits, divided by min(R, K).

    So a perfect ranking scores 1 whatever the size of the class.
    """
    summed = ranking.precision_within(torch.full_like(ranking.positives, k))
    return summed / ranking.positives.clamp(max=k)


def published_average_precision_at_1000(ranking: Ranking) -> Tensor:
    """As mean_average_precision_at_1000, but divided by R + 1 as published; ceiling R / (R + 1).

    The code of arXiv:2107.09562 divides by the size of the class, the query counted. A perfect
    embedding scores the mean of min(R, 1000) / (R + 1): 0.8 for classes of five.
    """
    summed = ranking.precision_within(torch.full_like(ranking.positives, 1000))
    return summed / (ranking.positives + 1)


def published_average_precision_at_class_size(ranking: Ranking) -> Tensor:
    """As mean_average_precision_at_r, with R + 1 in place of R as published; ceiling R / (R + 1).

    `mAP_c` in the code of arXiv:2107.09562, which counts the query into the size of its class.
    """
    size = ranking.positives + 1
    return ranking.precision_within(size) / size


def find_metric(name: str) -> Metric | None:
    """The retrieval metric of that name; None if there is none."""
    if name in _FIXED:
        return _FIXED[name]
    match = _CUT.fullmatch(name)
    if match is None:
        return None
    score, k = _AT_K[match[1]], int(match[2])
    depth = partial(torch.full_like, fill_value=k)
    return Metric(partial(score, k=k), depth, first_only=score is recall_at_k)


def descriptions() -> list[tuple[str, str]]:
    """Every retrieval metric and its first line; K stands for any number."""
    scores = {name: metric.score for name, metric in _FIXED.items()}
    scores |= {f"{name}_K": score for name, score in _AT_K.items()}
    return [(name, (score.__doc__ or "").split("\n")[0]) for name, score in sorted(scores.items())]


_AT_K: dict[str, Callable[..., Tensor]] = {
    "recall_at": recall_at_k,
    "mean_average_precision_at": mean_average_precision_at_k,
}
_CUT = re.compile(r"(recall_at|mean_average_precision_at)_([1-9][0-9]{0,8})")
_everything = partial(torch.full_like, fill_value=EVERYTHING)
_FIXED = {
    "precision_at_1": Metric(precision_at_1, torch.ones_like, first_only=True),
    "r_precision": Metric(r_precision, torch.clone),
    "mean_average_precision_at_r": Metric(mean_average_precision_at_r, torch.clone),
    "mean_average_precision": Metric(mean_average_precision, _everything),
    "mean_average_precision_at_1000_ooDML": Metric(
        published_average_precision_at_1000, partial(torch.full_like, fill_value=1000)
    ),
    "map_c_ooDML": Metric(published_average_precision_at_class_size, lambda found: found + 1),
}
