"""Retrieval metrics by name: what each scores a query by its `Ranking`, and how deep it looks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from oodml.errors import UsageError

EVERYTHING = 1 << 40
Score = Callable[..., Tensor]
_REGISTRY: dict[str, Metric] = {}


@dataclass(frozen=True, eq=False)
class Ranking:
    """The places of b queries' positives: the gallery samples with the query's label.

    `query` (b,) int64 are the queries' indices and `positives` (b,) int64 the numbers of their
    positives. The rest is (b, p) float64, nearest positive first. A positive stands in a group of
    equally near samples: `before` are nearer than the group, `hits_before` of them positives;
    `size` and `hits` count the group itself. Without ties `size` is one and the positive's rank
    is `before` + 1. `before` is infinite, and `size` and `hits` are one, where there is no such
    positive or where it stands deeper than was asked for.

    The order within a group is taken as random and expectations over it are exact, so the order
    of samples never moves a score, and an embedding that maps all to one point scores what chance
    gives.
    """

    query: Tensor
    positives: Tensor
    before: Tensor
    hits_before: Tensor
    size: Tensor
    hits: Tensor

    @property
    def tied(self) -> Tensor:
        """Which queries (b,) have a positive exactly as near as a sample of another class."""
        return (self.hits < self.size).any(1)

    def hits_within(self, cutoff: Tensor) -> Tensor:
        """The expected number (b,) of positives among the query's `cutoff` (b,) nearest."""
        return _total(((cutoff[:, None] - self.before) / self.size).clamp(0, 1))

    def precision_within(self, cutoff: Tensor) -> Tensor:
        """The sum (b,) of the precision at each positive's rank up to `cutoff` (b,), expected.

        At place i of a group the precision is (hits_before + 1 + (i - 1) share) / (before + i),
        where `share` is the chance that another sample of the group is a hit; summed over the
        places this is a difference of harmonic numbers.
        """
        places = torch.minimum(self.size, (cutoff[:, None] - self.before).clamp(min=0))
        share = (self.hits - 1) / (self.size - 1).clamp(min=1)
        before = torch.where(places > 0, self.before, 0)
        constant = self.hits_before + 1 - share * (before + 1)
        tied = share * places + constant * _harmonic_difference(before, places)
        alone = places * (self.hits_before + 1) / (before + 1)
        return _total(torch.where(self.size > 1, tied / self.size, alone))

    def chance_of_hit(self, k: int) -> Tensor:
        """The chance (b,) that at least one of the k nearest is a positive."""
        size, hits = self.size[:, 0], self.hits[:, 0]
        drawn = torch.minimum((k - self.before[:, 0]).clamp(min=0), size)
        # None of `drawn` samples is a hit: a product over the draws or, the same, over the hits.
        factors, other = (drawn, hits) if drawn.max() < hits.max() else (hits, drawn)
        none = torch.ones_like(size)
        for step in range(int(factors.max())):
            factor = (size - other - step).clamp(min=0) / (size - step).clamp(min=1)
            none = torch.where(step < factors, none * factor, none)
        return 1 - none


@dataclass(frozen=True)
class Metric:
    """A score per query of a `Ranking`, and the rank up to which it looks.

    `depth` gets the numbers of positives (n,) and gives ranks (n,). `first_only` says that the
    nearest positive alone decides.
    """

    score: Score
    depth: Callable[[Tensor], Tensor]
    first_only: bool = False


def metric(
    name: str,
    *,
    depth: int | Callable[[Tensor], Tensor] = EVERYTHING,
    first_only: bool = False,
) -> Callable[[Score], Score]:
    """Register `score(ranking)`, a score (b,) per query, under a name that `evaluate` then takes.

    `depth` is the last rank that matters, a number or a function of the numbers of positives (b,)
    int64; positives beyond it need not be found, so the smallest depth is the quickest. A name
    that ends in `_K` is a family: `score(ranking, k)` for any number in place of K, and depth K.
    The first line of the docstring describes the metric. Raises `UsageError` for a name that
    another metric has.

    >>> @metric("reciprocal_rank", first_only=True)
    ... def reciprocal_rank(ranking): ...
    """

    def register(score: Score) -> Score:
        known = _REGISTRY.get(name)
        if known is not None and _origin(known.score) != _origin(score):
            raise UsageError(f"two metrics are called {name!r}; rename one of them.")
        looks = depth if callable(depth) else partial(torch.full_like, fill_value=depth)
        _REGISTRY[name] = Metric(score, looks, first_only)
        return score

    return register


@metric("precision_at_1", depth=1, first_only=True)
def precision_at_1(ranking: Ranking) -> Tensor:
    """The share of queries whose nearest neighbour has their class."""
    return ranking.chance_of_hit(1)


@metric("recall_at_K", first_only=True)
def recall_at_k(ranking: Ranking, k: int) -> Tensor:
    """The share of queries with at least one image of their class among the K nearest.

    This is recall in the sense of deep metric learning (arXiv:1511.06452).
    """
    return ranking.chance_of_hit(k)


@metric("r_precision", depth=torch.clone)
def r_precision(ranking: Ranking) -> Tensor:
    """The share of the query's class among its R nearest, R being all there are to be found.

    arXiv:2003.08505.
    """
    return ranking.hits_within(ranking.positives) / ranking.positives


@metric("mean_average_precision_at_r", depth=torch.clone)
def mean_average_precision_at_r(ranking: Ranking) -> Tensor:
    """Precision at rank i, summed over ranks i = 1..R that are hits, divided by R.

    R is the number of gallery images of the query's class, the query itself not counted
    (arXiv:2003.08505).
    """
    return ranking.precision_within(ranking.positives) / ranking.positives


@metric("mean_average_precision")
def mean_average_precision(ranking: Ranking) -> Tensor:
    """Precision at rank i, summed over all ranks i that are hits, divided by R.

    The whole gallery is ranked: the average precision of information retrieval.
    """
    everything = torch.full_like(ranking.positives, EVERYTHING)
    return ranking.precision_within(everything) / ranking.positives


@metric("mean_average_precision_at_K")
def mean_average_precision_at_k(ranking: Ranking, k: int) -> Tensor:
    """Precision at rank i, summed over ranks i = 1..K that are hits, divided by min(R, K).

    So a perfect ranking scores 1 whatever the size of the class.
    """
    summed = ranking.precision_within(torch.full_like(ranking.positives, k))
    return summed / ranking.positives.clamp(max=k)


@metric("mean_average_precision_at_1000_ooDML", depth=1000)
def published_average_precision_at_1000(ranking: Ranking) -> Tensor:
    """As mean_average_precision_at_1000, but divided by R + 1 as published; ceiling R / (R + 1).

    The code of arXiv:2107.09562 divides by the size of the class, the query counted. A perfect
    embedding scores the mean of min(R, 1000) / (R + 1): 0.8 for classes of five.
    """
    summed = ranking.precision_within(torch.full_like(ranking.positives, 1000))
    return summed / (ranking.positives + 1)


@metric("map_c_ooDML", depth=lambda found: found + 1)
def published_average_precision_at_class_size(ranking: Ranking) -> Tensor:
    """As mean_average_precision_at_r, with R + 1 in place of R as published; ceiling R / (R + 1).

    `mAP_c` in the code of arXiv:2107.09562, which counts the query into the size of its class.
    """
    size = ranking.positives + 1
    return ranking.precision_within(size) / size


def find_metric(name: str) -> Metric | None:
    """The retrieval metric of that name; None if there is none."""
    if name in _REGISTRY and not name.endswith("_K"):
        return _REGISTRY[name]
    cut = re.fullmatch(r"(.+_)([1-9][0-9]{0,8})", name)
    family = _REGISTRY.get(f"{cut[1]}K") if cut else None
    if cut is None or family is None:
        return None
    k = int(cut[2])
    depth = partial(torch.full_like, fill_value=k)
    return replace(family, score=partial(family.score, k=k), depth=depth)


def descriptions() -> list[tuple[str, str]]:
    """Every retrieval metric and its first line; K stands for any number."""
    return [
        (name, (entry.score.__doc__ or "").split("\n")[0])
        for name, entry in sorted(_REGISTRY.items())
    ]


def _origin(score: Score) -> tuple[str, str]:
    return score.__code__.co_filename, score.__qualname__


def _harmonic_difference(start: Tensor, places: Tensor) -> Tensor:
    """1 / (start + 1) + ... + 1 / (start + places)."""
    longest = int((start + places).max()) + 1
    terms = torch.arange(longest, device=start.device, dtype=torch.float64).clamp(min=1)
    numbers = (1 / terms).cumsum(0) - 1
    return numbers[(start + places).long()] - numbers[start.long()]


def _total(values: Tensor) -> Tensor:
    # cumsum adds from left to right, so padding columns do not change the rounding.
    return values.cumsum(1)[:, -1]
