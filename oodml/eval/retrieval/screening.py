"""Counting a tile by products in bfloat16, of bounded error, several times faster than float32.

Most samples are nearer than a positive, or farther, by more than that error, and are counted as
such; the few that are not are compared one by one. A positive that is proven to lie beyond the
places that are wanted needs no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodml.eval.retrieval.tally import Tally
from oodml.eval.retrieval.tiles import Side, chosen_products, margin, negatives_only

_MOST_DIMENSIONS = 1 << 16
# The share of a tile's columns that may be compared one by one with a query, and the share of its
# products that may reach a place, counted once a place; what takes more is left to float32.
_OPEN, _DENSE = 0.2, 0.5
_NEVER = float("inf")
_SLICE = 4096
Array = NDArray[Any]


@dataclass(frozen=True)
class Screen:
    """Products in bfloat16 and how far they lie from the truth at most, before they are rounded."""

    error: float

    @staticmethod
    def of(rows: Side, columns: Side) -> Screen:
        """The screen of these sides' vectors."""
        lost = [_lost(side) for side in (rows, columns)]
        # (x + dx)(y + dy) for unit vectors x and y (Cauchy and Schwarz); sums are in float32.
        return Screen(sum(lost) + lost[0] * lost[1] + margin(rows.vectors.shape[1]))

    def tile(self, rows: Side, columns: Side) -> Tensor:
        """Similarities (r, c) in bfloat16; -inf between samples of one class."""
        similarity = _rounded(rows) @ _rounded(columns).T
        return negatives_only(similarity, rows.place, columns.place)

    def add(
        self, tally: Tally, similarity: Tensor, rows: Side, columns: Side, *, axis: int = 0
    ) -> Tensor:
        """Count a tile (r, c) of these rows and columns for the queries, which lie along `axis`.

        Returns the queries (q,) that are left uncounted: those with so many samples about as near
        as a positive that a product in float32 is quicker.
        """
        self._add_certain(tally, similarity, axis)
        wanted = tally.wanted & ~tally.aside
        places = wanted.any(0).nonzero().squeeze(1)
        if not len(places):
            return places
        lower, upper = self._bounds(tally.threshold[:, places], wanted[:, places])
        found = _found(similarity, lower.min(1), axis, _DENSE / len(places))
        if found is None:
            return wanted.any(1).nonzero().squeeze(1)
        certain = found.key > upper[found.query]
        unsure = (found.key >= lower[found.query]) & ~certain
        left = _per_query(found, unsure, len(lower)).sum(1) > _OPEN * similarity.shape[1 - axis]
        tally.above[:, places] += _per_query(found, certain, len(lower)) * ~left[:, None]
        # Beyond its limit a place is not looked at, so it need not be exact.
        unsure &= (tally.wanted[:, places] & ~left[:, None]).numpy()[found.query]
        _add_pairs(tally, places, found, unsure, rows, columns)
        return left.nonzero().squeeze(1)

    def _add_certain(self, tally: Tally, similarity: Tensor, axis: int) -> None:
        """Count what is above the places set aside for sure, until it proves them beyond."""
        aside = tally.wanted & tally.aside
        for place in aside.any(0).nonzero().squeeze(1).tolist():
            _, upper = self._bounds(tally.threshold[:, place], aside[:, place])
            above = _tile_keys(similarity, upper) > (upper if axis else upper[:, None])
            count = above.view(np.uint8).sum(1 - axis, dtype=np.uint32)
            tally.above[:, place] += torch.from_numpy(count.astype(np.int32))

    def _bounds(self, threshold: Tensor, wanted: Tensor) -> tuple[Array, Array]:
        """Keys of the thresholds less and plus the error, in bfloat16, where they are `wanted`.

        Products are rounded to the nearest as these are, which keeps the order: one that is above
        (below) such a bound was so before both were rounded.
        """
        bounds = (threshold - self.error, threshold + self.error)
        lower, upper = (bound.bfloat16().masked_fill_(~wanted, _NEVER) for bound in bounds)
        return _keys(lower), _keys(upper)


def is_quicker(vectors: Tensor) -> bool:
    """Whether bfloat16 is quicker than float32 for these (n, d), and its error has a bound."""
    return vectors.device.type == "cpu" and vectors.shape[1] < _MOST_DIMENSIONS and has_arithmetic()


def has_arithmetic() -> bool:
    """Whether the processor multiplies in bfloat16 itself."""
    supported: bool = torch.cpu._is_avx512_bf16_supported()
    return supported


def rounded_sides(rows: Side, columns: Side) -> tuple[Side, Side]:
    """The sides with their vectors in bfloat16 as well."""
    first = replace(rows, rounded=rows.vectors.bfloat16())
    same = rows is columns
    return first, first if same else replace(columns, rounded=columns.vectors.bfloat16())


def _rounded(side: Side) -> Tensor:
    return side.vectors.bfloat16() if side.rounded is None else side.rounded


def _lost(side: Side) -> float:
    """The largest length that a vector's rounding to bfloat16 cuts off."""
    parts = (side.part(start, start + _SLICE) for start in range(0, len(side), _SLICE))
    return max(float((part.vectors - _rounded(part)).norm(dim=1).max()) for part in parts)


@dataclass(frozen=True, eq=False)
class _Found:
    """Products of a tile that reach a place: query, row and column (f,), key (f, 1)."""

    query: Array
    down: Array
    across: Array
    key: Array


def _found(similarity: Tensor, lowest: Array, axis: int, most: float) -> _Found | None:
    """The products of at least their query's `lowest` key; None if more than the share `most`."""
    keys = _tile_keys(similarity, lowest)
    reached = keys >= (lowest if axis else lowest[:, None])
    if np.count_nonzero(reached) > most * reached.size:
        return None
    # NumPy finds the few true values of many ten times as fast as torch.
    flat = np.flatnonzero(reached)
    down = flat // reached.shape[1]
    across = flat - down * reached.shape[1]
    return _Found(across if axis else down, down, across, keys.ravel()[flat][:, None])


def _keys(values: Tensor) -> Array:
    """Integers int16 in the order of these values in bfloat16: their bits, which are quicker."""
    bits = values.view(torch.int16).numpy()
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


def _tile_keys(similarity: Tensor, bounds: Array) -> Array:
    # Bits of negative values are negative, if in another order, so positive bounds do with them.
    return similarity.view(torch.int16).numpy() if bounds.min() > 0 else _keys(similarity)


def _per_query(found: _Found, mask: Array, queries: int) -> Tensor:
    """How many of the products (f, p) in the mask each query and place has: (q, p) int32."""
    flat = np.flatnonzero(mask)
    at = flat // mask.shape[1]
    where = found.query[at] * mask.shape[1] + (flat - at * mask.shape[1])
    counts = np.bincount(where, minlength=queries * mask.shape[1])
    return torch.from_numpy(counts.reshape(queries, -1)).int()


def _add_pairs(
    tally: Tally, places: Tensor, found: _Found, unsure: Array, rows: Side, columns: Side
) -> None:
    """Compare the unsure products (f, p) with their places one by one."""
    at, place = (torch.from_numpy(each) for each in np.nonzero(unsure))
    if not len(at):
        return
    query, down, across = (
        torch.from_numpy(each)[at] for each in (found.query, found.down, found.across)
    )
    where = query * tally.above.shape[1] + places[place]
    threshold = tally.threshold.flatten()[where]
    similarity = _similarity(rows.vectors, columns.vectors, down, across, threshold)
    for counts, taken in (
        (tally.above, similarity > threshold),
        (tally.tied, similarity == threshold),
    ):
        counts += torch.bincount(where[taken], minlength=counts.numel()).view_as(counts)


def _similarity(
    rows: Tensor, columns: Tensor, down: Tensor, across: Tensor, threshold: Tensor
) -> Tensor:
    """The pairs' similarities (p,): true where float32 does not tell them from the thresholds."""
    similarity = chosen_products(rows, columns, down, across)
    open_ = ((similarity - threshold).abs() <= margin(rows.shape[1])).nonzero().squeeze(1)
    left, right = rows[down[open_]].double(), columns[across[open_]].double()
    similarity[open_] = (left * right).sum(1).float()
    return similarity
