"""How many samples of other classes are nearer than each positive: counted tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np
import torch
from torch import Tensor

# Up to here, comparing a tile with one threshold after the other is quicker than sorting it.
_PASSES = 32
# A place is set aside if its rank is estimated at more than this many times its limit, from at
# least so many samples above it.
_FAR, _FEW = 4, 32
Rows = Tensor | slice


@dataclass(frozen=True, eq=False)
class Tally:
    """The counts of a block of b queries, (b, p) each, nearest positive first.

    `threshold` float32 is the similarity of the positive, -inf where there is none. `above` and
    `tied` int32 grow with each tile: the samples of other classes nearer than it and exactly as
    near. `limit` int32: from this many above on, the positive's place is not wanted. `aside` bool
    are the places taken for lying beyond it: a screen counts what is certainly above them and no
    more, until it has proved it. Several threads may `put` what they have counted.
    """

    threshold: Tensor
    above: Tensor
    tied: Tensor
    limit: Tensor
    aside: Tensor
    _lock: Lock = field(default_factory=Lock)

    @staticmethod
    def of(threshold: Tensor, limit: Tensor) -> Tally:
        """A tally that has counted nothing yet."""
        zeros = torch.zeros_like(limit)
        return Tally(threshold, zeros, zeros.clone(), limit, zeros.bool())

    @property
    def wanted(self) -> Tensor:
        """The places (b, p) bool that are not known to lie beyond their limit."""
        return self.above < self.limit

    def unplaced(self) -> Tensor:
        """The rows of which some positive's place is still wanted."""
        return self.wanted.any(1).nonzero().squeeze(1)

    def set_aside(self, share: float) -> None:
        """Set aside what would lie far beyond its limit if all were like the `share` counted."""
        far = self.above > (_FAR * share) * self.limit.double()
        self.aside.copy_(far & (self.above >= _FEW) & self.wanted)

    def part(self, rows: Rows) -> Tally:
        """A tally of the given rows that counts from here on, for itself."""
        left = self.limit[rows] - self.above[rows]
        return replace(Tally.of(self.threshold[rows], left), aside=self.aside[rows])

    def drop_aside(self) -> None:
        """Forget what has been counted for places set aside."""
        self.above.masked_fill_(self.aside, 0)
        self.tied.masked_fill_(self.aside, 0)

    def put(self, rows: Rows, part: Tally) -> None:
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
        # do not lie in one piece.
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
