"""What a list of neighbours is worth: hits per rank, expected over the order of exact ties."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodml.eval.neighbors import Neighbors


@dataclass(frozen=True, eq=False)
class Ranking:
    """The neighbours of b queries as groups of equally near samples, in a random order each.

    Per rank (b, k), float64: `before`, the samples nearer than the rank's group; `hits_before`,
    those of them with the query's label; `size` and `hits`, the same counts within the group.
    `positives` (b,) counts all gallery samples with the query's label. Without ties each group
    has size one. Expectations over the order within groups are exact, so the order of samples
    never moves a score, and an embedding that maps all to one point scores what chance gives.
    """

    before: Tensor
    hits_before: Tensor
    size: Tensor
    hits: Tensor
    positives: Tensor

    @property
    def tied(self) -> Tensor:
        """Which queries (b,) have hits and misses tied within the list."""
        return ((self.hits > 0) & (self.hits < self.size)).any(1)

    def within(self, cutoff: Tensor) -> Tensor:
        """1 where the rank, from 1, is at most the query's `cutoff` (b,), else 0; (b, k)."""
        ranks = torch.arange(1, self.size.shape[1] + 1, device=self.size.device)
        return (ranks <= cutoff[:, None]).double()

    def expected_hit(self) -> Tensor:
        """The chance (b, k) that the sample at each rank has the query's label."""
        return self.hits / self.size

    def expected_precision_at_hit(self) -> Tensor:
        """Precision at each rank (b, k) where it is a hit and 0 elsewhere, expected."""
        rank = torch.arange(1, self.size.shape[1] + 1, device=self.size.device)
        earlier = (rank - self.before - 1) * (self.hits - 1) / (self.size - 1).clamp(min=1)
        return self.expected_hit() * (self.hits_before + 1 + earlier) / rank

    def chance_of_hit(self, k: int) -> Tensor:
        """The chance (b,) that at least one of the k nearest has the query's label."""
        last = min(k, self.size.shape[1]) - 1
        size, hits = self.size[:, last], self.hits[:, last]
        drawn = last + 1 - self.before[:, last]
        # k - before samples are drawn from the group; none of them is a hit.
        none = torch.exp(_log_choose(size - hits, drawn) - _log_choose(size, drawn))
        none = torch.where(size - hits < drawn, 0.0, none)
        none = torch.where(hits == 0, 1.0, none)
        return torch.where(self.hits_before[:, last] > 0, 1.0, 1 - none)


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    rest = (n - k).clamp(min=0)
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(rest + 1)


def ranking_of(neighbors: Neighbors, positives: Tensor) -> Ranking:
    """The neighbours as groups of ties, those beyond the list included."""
    similarity, same = neighbors.similarity, neighbors.same.double()
    ranks = torch.arange(similarity.shape[1], device=similarity.device).expand_as(similarity)
    changes = similarity[:, 1:] != similarity[:, :-1]
    edge = torch.ones_like(changes[:, :1]) if changes.shape[1] else torch.ones_like(same).bool()
    starts = torch.cat((edge, changes), 1)
    ends = torch.cat((changes, edge), 1)
    first = torch.where(starts, ranks, 0).cummax(1).values
    last = torch.where(ends, ranks, similarity.shape[1]).flip(1).cummin(1).values.flip(1)
    total = same.cumsum(1)
    hits_before = (total - same).gather(1, first)
    at_border = (last == similarity.shape[1] - 1).double()
    size = (last - first + 1).double() + at_border * neighbors.tied[:, None]
    hits = total.gather(1, last) - hits_before + at_border * neighbors.tied_same[:, None]
    return Ranking(first.double(), hits_before, size, hits, positives)
