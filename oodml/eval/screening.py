"""Counting a tile by products in bfloat16, of bounded error, several times faster than float32.

Most samples are nearer than a positive, or farther, by more than that error, and are counted as
such; the few that are not are compared one by one. A positive that is proven to lie beyond the
places that are wanted needs no more than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oodml.eval.tally import Tally
from oodml.eval.tiles import Side, chosen_products, margin, negatives_only

_MOST_DIMENSIONS = 1 << 16
# The share of a tile's columns that may be compared one by one with a query; a query with more of
# them is left to a product in float32.
_OPEN = 0.2
_SLICE = 4096


@dataclass(frozen=True)
class Screen:
    """Products in bfloat16 and how far they lie from the truth at most, before they are rounded."""

    error: float

    @staticmethod
    def of(rows: Side, columns: Side) -> Screen | None:
        """None where bfloat16 is no quicker than float32 or its error has no bound."""
        vectors = rows.vectors
        on_cpu = vectors.device.type == "cpu"
        if not (on_cpu and vectors.shape[1] < _MOST_DIMENSIONS and has_arithmetic()):
            return None
        lost = [_lost(side.vectors) for side in (rows, columns)]
        # (x + dx)(y + dy) for unit vectors x and y (Cauchy and Schwarz); sums are in float32.
        return Screen(sum(lost) + lost[0] * lost[1] + margin(vectors.shape[1]))

    def tile(self, rows: Side, columns: Side) -> Tensor:
        """Similarities (r, c) in bfloat16; -inf between samples of one class."""
        similarity = rows.vectors.bfloat16() @ columns.vectors.bfloat16().T
        return negatives_only(similarity, rows.place, columns.place)

    def reached(self, tally: Tally, nearest: Tensor) -> Tensor:
        """The rows (r,) that a tile may change, whose largest similarities (b,) are `nearest`."""
        lower, _ = self._bounds(tally.threshold)
        near = (tally.above < tally.limit) & (nearest[:, None] >= lower)
        return near.any(1).nonzero().squeeze(1)

    def add(self, tally: Tally, similarity: Tensor, rows: Side, columns: Side) -> Tensor:
        """Count a tile (b, c) of these rows and columns; the rows (r,) that it leaves uncounted.

        Those have so many samples about as near as a positive that a product in float32 is quicker.
        """
        lower, upper = self._bounds(tally.threshold)
        nearest = similarity.amax(1, keepdim=True)
        near = (tally.above < tally.limit) & (nearest >= lower)
        certain, possible = torch.zeros_like(tally.above), torch.zeros_like(tally.above)
        for place, found in _by_place(near):
            masks = _masks(_rows(similarity, found), lower[found, place], upper[found, place])
            possible[found, place], certain[found, place] = (mask.sum(1).int() for mask in masks)
        # Beyond its limit a place is not looked at, so it need not be exact.
        beyond = tally.above + certain >= tally.limit
        unsure = torch.where(beyond, 0, possible - certain)
        left = unsure.sum(1) > _OPEN * similarity.shape[1]
        tally.above.add_(torch.where(left[:, None], 0, certain))
        for place, found in _by_place((unsure > 0) & ~left[:, None]):
            masks = _masks(_rows(similarity, found), lower[found, place], upper[found, place])
            between = masks[0].sub_(masks[1]).bool()
            _add_pairs(tally, place, found, between, rows, columns)
        return left.nonzero().squeeze(1)

    def _bounds(self, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """The thresholds less and plus the error, in bfloat16 and rounded outwards.

        Rounding keeps order, so a product above (below) such a bound was so before it was rounded.
        """
        lower, upper = threshold - self.error, threshold + self.error
        step = 2.0**-8
        return (lower - step * lower.abs()).bfloat16(), (upper + step * upper.abs()).bfloat16()


def has_arithmetic() -> bool:
    """Whether the processor multiplies in bfloat16 itself."""
    supported: bool = torch.cpu._is_avx512_bf16_supported()
    return supported


def _lost(vectors: Tensor) -> float:
    """The largest length that a vector's rounding to bfloat16 cuts off."""
    slices = (vectors[start : start + _SLICE] for start in range(0, len(vectors), _SLICE))
    return max(float((part - part.bfloat16()).norm(dim=1).max()) for part in slices)


def _by_place(chosen: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each place (column) in which rows are chosen, with these rows."""
    for place in chosen.any(0).nonzero().squeeze(1).tolist():
        yield place, chosen[:, place].nonzero().squeeze(1)


def _rows(similarity: Tensor, found: Tensor) -> Tensor:
    return similarity if len(found) == len(similarity) else similarity.index_select(0, found)


def _masks(similarity: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """1 where a row's similarities (r, c) are at least its `lower` (r,), and above its `upper`."""
    # A comparison written as float32, and its sum, are far quicker than one of booleans.
    masks = similarity.new_empty((2, *similarity.shape), dtype=torch.float32)
    return (
        torch.ge(similarity, lower[:, None], out=masks[0]),
        torch.gt(similarity, upper[:, None], out=masks[1]),
    )


def _add_pairs(
    tally: Tally, place: int, found: Tensor, chosen: Tensor, rows: Side, columns: Side
) -> None:
    """Compare the chosen pairs (f, c) of the found rows with the columns one by one."""
    # NumPy finds the few true values of many ten times as fast as torch.
    flat = torch.from_numpy(np.flatnonzero(chosen.numpy()))
    down, across = flat // chosen.shape[1], flat % chosen.shape[1]
    threshold = tally.threshold[found, place][down]
    similarity = _similarity(rows.vectors[found], columns.vectors, down, across, threshold)
    above, tied = similarity > threshold, similarity == threshold
    for counts, taken in ((tally.above, above), (tally.tied, tied)):
        counts[found, place] += torch.bincount(down[taken], minlength=len(found)).int()


def _similarity(
    rows: Tensor, columns: Tensor, down: Tensor, across: Tensor, threshold: Tensor
) -> Tensor:
    """The pairs' similarities (p,): true where float32 does not tell them from the thresholds."""
    similarity = chosen_products(rows, columns, down, across)
    open_ = ((similarity - threshold).abs() <= margin(rows.shape[1])).nonzero().squeeze(1)
    left, right = rows[down[open_]].double(), columns[across[open_]].double()
    similarity[open_] = (left * right).sum(1).float()
    return similarity
