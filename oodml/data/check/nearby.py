"""All pairs of pictures that look alike, found without comparing all pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oodml.data.check.perceptual import HASH_BITS

# Bits of 256. Measured on the emoji collection: docs/checking-data.md.
MAX_DISTANCE = 8
# Mean difference of the 8 x 8 colours, of 255 levels; measured there too.
MAX_COLOUR_DIFFERENCE = 6.0
# Beyond this the list helps nobody, and 20 million pairs take half a GB.
MOST_PAIRS = 20_000_000

_BLOCK = 256
_MOST_BANDS = 16
_AT_ONCE = 100_000

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs `first` < `second` of rows, `distance` in bits, all within `radius` bits.

    `radius` is -1 if even the pairs of equal hashes were too many to list: then there are none.
    """

    first: Integers
    second: Integers
    distance: Integers
    radius: int


def near_pairs(
    hashes: npt.NDArray[np.uint8],
    colours: npt.NDArray[np.uint8],
    radius: int = MAX_DISTANCE,
    *,
    most: int = MOST_PAIRS,
) -> NearPairs:
    """Every pair of rows at most `radius` bits apart whose small pictures have like colours.

    `hashes` has shape (n, 32), `colours` (n, 192). The search is exact: of radius + 1 bands of
    bits at least one is equal (multi-index hashing, arXiv:1307.2982). With more than `most` pairs
    the radius is halved until the pairs fit; the radius that was kept is in the result.
    """
    index = _index(radius)
    rows = _interleaved(hashes, radius)
    none = np.zeros(0, np.int64)
    parts = [NearPairs(none, none, none, radius)]
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        index.add(block)
        parts.append(_alike(_found(index, block, start, parts[0].radius), colours))
        if sum(len(part.first) for part in parts) > most:
            parts = [_fitting(_joined(parts), most)]
    found = _joined(parts)
    order = np.lexsort((found.second, found.first))
    return NearPairs(found.first[order], found.second[order], found.distance[order], found.radius)


def _index(radius: int) -> Any:
    import faiss

    bands = radius + 1
    if bands > _MOST_BANDS:  # so narrow bands that comparing all is quicker
        return faiss.IndexBinaryFlat(HASH_BITS)
    return faiss.IndexBinaryMultiHash(HASH_BITS, bands, HASH_BITS // bands)


def _interleaved(hashes: npt.NDArray[np.uint8], radius: int) -> npt.NDArray[np.uint8]:
    """The bits in another order, so that every band holds low and high frequencies."""
    bands = min(radius + 1, HASH_BITS)
    order = np.argsort(np.arange(HASH_BITS) % bands, kind="stable")
    bits = np.unpackbits(hashes.reshape(-1, HASH_BITS // 8), axis=1)
    return np.packbits(bits[:, order], axis=1)


def _found(index: Any, block: npt.NDArray[np.uint8], start: int, radius: int) -> NearPairs:
    limits, distance, other = index.range_search(block, radius + 1)  # faiss: strictly below
    row = np.repeat(np.arange(start, start + len(block)), np.diff(limits.astype(np.int64)))
    earlier = other < row
    return NearPairs(
        other[earlier].astype(np.int64),
        row[earlier].astype(np.int64),
        distance[earlier].astype(np.int64),
        radius,
    )


def _alike(pairs: NearPairs, colours: npt.NDArray[np.uint8]) -> NearPairs:
    keep = np.zeros(len(pairs.first), bool)
    for start in range(0, len(keep), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        one = colours[pairs.first[part]].astype(np.int16)
        difference = np.abs(one - colours[pairs.second[part]]).mean(1)
        keep[part] = difference <= MAX_COLOUR_DIFFERENCE
    return _kept(pairs, keep, pairs.radius)


def _joined(parts: list[NearPairs]) -> NearPairs:
    return NearPairs(
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
        np.concatenate([part.distance for part in parts]),
        parts[0].radius,
    )


def _fitting(pairs: NearPairs, most: int) -> NearPairs:
    while len(pairs.first) > most:
        radius = pairs.radius // 2 if pairs.radius else -1
        pairs = _kept(pairs, pairs.distance <= radius, radius)
    return pairs


def _kept(pairs: NearPairs, keep: npt.NDArray[np.bool_], radius: int) -> NearPairs:
    return NearPairs(pairs.first[keep], pairs.second[keep], pairs.distance[keep], radius)
