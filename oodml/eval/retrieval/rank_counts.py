"""How many samples of other classes are nearer than each positive, counted tile by tile.

A tile holds the similarities of some queries and some samples, formed in float32. Each lies within
a proven margin of the true value; where that leaves a comparison open, the tile's rows and columns
concerned are formed again in float64. So the counts depend neither on the shape of the tiles nor
on a device's order of summing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import torch
from torch import Tensor

# Up to here, comparing a tile with one threshold after the other is quicker than sorting it.
_PASSES = 32
NO_SIMILARITY = float("-inf")
Rows = Tensor | slice


@dataclass(frozen=True, eq=False)
class SortedSamples:
    """Queries or gallery in the order of their classes, classes with few positives first.

    `vectors` (n, d) have length one (or zero); `place` (n,) int64 is the class's place in that
    order and rises; `order` (n,) int64 gives each row's index before sorting. Class c fills the
    rows `starts[c]` to `starts[c + 1]`.
    """

    vectors: Tensor
    place: Tensor
    order: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.place)

    def of(self, rows: Rows) -> SortedSamples:
        """The chosen rows, in that order."""
        return SortedSamples(self.vectors[rows], self.place[rows], self.order[rows], self.starts)

    def cut(self, width: int) -> list[SortedSamples]:
        """Parts of at most `width` rows."""
        return [self.of(slice(start, start + width)) for start in range(0, len(self), width)]


@dataclass(frozen=True, eq=False)
class RankCounts:
    """The counts of a block of b queries, (b, p) each, nearest positive first.

    `threshold` float32 is the similarity of the positive, -inf where there is none. `above` and
    `tied` int32 grow with each tile: the samples of other classes nearer than it and exactly as
    near. `limit` int32: from this many above on, the positive's place is not wanted. Several
    threads may `put` what they have counted.
    """

    threshold: Tensor
    above: Tensor
    tied: Tensor
    limit: Tensor
    _lock: Lock = field(default_factory=Lock)

    @staticmethod
    def of(threshold: Tensor, limit: Tensor) -> RankCounts:
        """Counts of zero."""
        return RankCounts(threshold, torch.zeros_like(limit), torch.zeros_like(limit), limit)

    @property
    def wanted(self) -> Tensor:
        """The places (b, p) bool that are not known to lie beyond their limit."""
        return self.above < self.limit

    def unplaced(self) -> Tensor:
        """The rows of which some positive's place is still wanted."""
        return self.wanted.any(1).nonzero().squeeze(1)

    def part(self, rows: Rows) -> RankCounts:
        """Counts of the given rows that start at zero, to be `put` back."""
        return RankCounts.of(self.threshold[rows], self.limit[rows] - self.above[rows])

    def put(self, rows: Rows, part: RankCounts) -> None:
        """Add what a `part` has counted."""
        with self._lock:
            self.above[rows] += part.above
            self.tied[rows] += part.tied

    def add(
        self, similarity: Tensor, margin: float, exact: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        """Count a tile (b, c), -inf where nothing is to be counted.

        `similarity` is within `margin` of the truth; `exact(rows, columns)` is the truth where
        the given rows and columns of the tile cross.
        """
        nearest = similarity.amax(1, keepdim=True)
        reached = self.wanted & (nearest >= self.threshold - margin)
        places = reached.any(0).nonzero().squeeze(1).tolist()
        together = len(places) > _PASSES
        while places:
            # One threshold of each row at a time, for few rows reach the later ones; all at once
            # where they lie so close together that most of the tile has to be formed again.
            span = slice(places[0], (places[-1] if together else places[0]) + 1)
            places = [place for place in places if place >= span.stop]
            rows = reached[:, span].any(1).nonzero().squeeze(1)
            together = self._add(similarity, rows, span, margin, exact) > len(similarity) // 8

    def _add(
        self,
        similarity: Tensor,
        rows: Tensor,
        span: slice,
        margin: float,
        exact: Callable[[Tensor, Tensor], Tensor],
    ) -> int:
        # A copy of few rows is cheaper than a look at all; of most rows it is not, nor of rows that
        # are not contiguous in memory.
        if len(rows) < len(similarity) // (2 if similarity.stride(1) == 1 else 12):
            part = similarity.index_select(0, rows)
        else:
            part, rows = similarity, torch.arange(len(similarity), device=rows.device)
        threshold = self.threshold[rows, span]
        upper, lower = threshold + margin, threshold - margin
        above, reaching = _counts(part, upper, lower)
        # Beyond its limit a place is not looked at, so it need not be exact.
        wanted = self.above[rows, span] + above < self.limit[rows, span]
        unsure = ((above != reaching) & wanted).any(1).nonzero().squeeze(1)
        if len(unsure):
            part, threshold = part.index_select(0, unsure), threshold[unsure]
            near = _near(part, upper[unsure], lower[unsure])
            part[:, near] = exact(rows[unsure], near)
            above[unsure], reaching[unsure] = _counts(part, threshold, threshold)
        self.above[rows, span] += above
        self.tied[rows, span] += reaching - above
        return len(unsure)


def similarity_margin(dimension: int) -> float:
    """How far two similarities in float32 lie apart at most because of rounding alone.

    A sum of d products of unit vectors is off by at most d u / (1 - d u) with u = 2^-24 in any
    order of summation (Higham 2002, section 3.1); the rest covers the rounding of the lengths, of
    the similarity it is compared with, and of their difference.
    """
    return 1.01 * (dimension + 8) * 2.0**-24


def tile(rows: SortedSamples, columns: SortedSamples) -> Tensor:
    """Similarities (r, c) in float32; -inf between samples of one class.

    Within `similarity_margin` of the truth at PyTorch's "highest" precision of products.
    """
    similarity = torch.mm(rows.vectors, columns.vectors.T)
    return _negatives_only(similarity, rows.place, columns.place)


def exact_part(rows: SortedSamples, columns: SortedSamples, down: Tensor, across: Tensor) -> Tensor:
    """The tile's true values where the rows `down` and the columns `across` cross.

    `down` is (r,) int64, `across` (c,) int64, the values (r, c) float32.
    """
    products = exact_products(rows.vectors[down], columns.vectors[across])
    return _negatives_only(products, rows.place[down], columns.place[across])


def exact_products(rows: Tensor, columns: Tensor) -> Tensor:
    """Dot products (..., r, c) of float32 vectors, formed in float64 and rounded to float32."""
    return (rows.double() @ columns.double().mT).float()


def _negatives_only(similarity: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    if rows[0] <= columns[-1] and columns[0] <= rows[-1]:
        similarity.masked_fill_(rows[:, None] == columns, NO_SIMILARITY)
    return similarity


def _near(similarity: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """The columns of (b, c) that the counts above `upper` and from `lower` (b, p) differ by."""
    if upper.shape[1] > _PASSES:
        return torch.arange(similarity.shape[1], device=similarity.device)
    near = torch.zeros_like(similarity, dtype=torch.bool)
    for place in range(upper.shape[1]):
        near |= (similarity <= upper[:, place, None]) & (similarity >= lower[:, place, None])
    return near.any(0).nonzero().squeeze(1)


def _counts(similarity: Tensor, upper: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """Per row of (b, c), how many are above each of `upper` (b, p) and at least each of `lower`."""
    if upper.shape[1] > _PASSES:
        return _counts_by_sorting(similarity, upper, lower)
    # A comparison written as float32, and its sum, take half the time of one of booleans.
    mask = torch.empty_like(similarity)
    above, reaching = torch.empty_like(upper), torch.empty_like(lower)
    for place in range(upper.shape[1]):
        above[:, place] = torch.gt(similarity, upper[:, place, None], out=mask).sum(1)
        reaching[:, place] = torch.ge(similarity, lower[:, place, None], out=mask).sum(1)
    return above.int(), reaching.int()


def _counts_by_sorting(similarity: Tensor, upper: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    if similarity.device.type == "cpu":
        # NumPy sorts float32 ten times faster than torch, which carries the order along.
        ascending = torch.from_numpy(np.sort(similarity.contiguous().numpy(), axis=1))
    else:
        ascending = similarity.sort(1).values
    count = similarity.shape[1]
    above = count - torch.searchsorted(ascending, upper.contiguous(), right=True, out_int32=True)
    reaching = count - torch.searchsorted(ascending, lower.contiguous(), out_int32=True)
    return above, reaching
