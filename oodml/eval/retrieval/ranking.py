"""Where a query's images stand among its neighbours, expected over the order of exact ties."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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


def _harmonic_difference(start: Tensor, places: Tensor) -> Tensor:
    """1 / (start + 1) + ... + 1 / (start + places)."""
    longest = int((start + places).max()) + 1
    terms = torch.arange(longest, device=start.device, dtype=torch.float64).clamp(min=1)
    numbers = (1 / terms).cumsum(0) - 1
    return numbers[(start + places).long()] - numbers[start.long()]


def _total(values: Tensor) -> Tensor:
    # A running sum adds from left to right, so columns of padding do not regroup the terms.
    return values.cumsum(1)[:, -1]
