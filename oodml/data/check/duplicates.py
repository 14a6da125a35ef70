"""Exact and near duplicates among images: as sets, and across the sides of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from oodml.data.check.images import HASH_BITS, Look

# Bits of 256. Measured on the emoji collection: docs/checking-data.md.
MAX_DISTANCE = 8
# Mean difference of the 8 x 8 colours, of 255 levels; measured there too.
MAX_COLOUR_DIFFERENCE = 6.0
# 20 million pairs take half a GB; with more the search radius is reduced.
MOST_PAIRS = 20_000_000
_BLOCK = 256
_MOST_BANDS = 16
_AT_ONCE = 100_000
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DuplicateSet:
    """Images of one picture; `distance` is the largest between neighbours of the set, in bits.

    `kind` is `exact` if all have equal pixels, else `near`. Sets are chained: if A is near B and B
    near C, the three are one set, however far A is from C.
    """

    kind: str
    distance: int
    classes: tuple[str, ...]
    images: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Which images show which picture, and which pictures are near each other.

    `picture` has shape (n,): equal numbers are pictures with equal pixels, -1 an image that takes
    no part because it does not decode or is blank. `near` holds pairs of picture numbers, at most
    `max_distance` bits apart (or fewer: `near.radius`).
    """

    picture: Integers
    near: NearPairs
    max_distance: int

    def sets(self, names: Sequence[str], class_of: Sequence[str]) -> list[DuplicateSet]:
        """The sets of at least two images, largest first; both arguments have length n."""
        chain = self._chains()
        farthest = np.zeros(len(chain), np.int64)
        np.maximum.at(farthest, chain[self.near.first], self.near.distance)
        rows = np.flatnonzero(self.picture >= 0)
        of_row = chain[self.picture[rows]]
        order = np.argsort(of_row, kind="stable")
        bounds = np.flatnonzero(np.diff(of_row[order])) + 1
        found = [
            DuplicateSet(
                kind="exact" if len(set(self.picture[each])) == 1 else "near",
                distance=int(farthest[chain[self.picture[each[0]]]]),
                classes=tuple(sorted({class_of[row] for row in each})),
                images=tuple(names[row] for row in each),
            )
            for each in np.split(rows[order], bounds)
            if len(each) > 1
        ]
        return sorted(found, key=lambda each: (-len(each.images), each.images))

    def _chains(self) -> Integers:
        pictures = int(self.picture.max(initial=-1)) + 1
        if not pictures:
            return np.zeros(0, np.int64)
        # SciPy 1.11 joins graphs of 32-bit indices only.
        ends = (self.near.first.astype(np.int32), self.near.second.astype(np.int32))
        links = (np.ones(len(ends[0]), bool), ends)
        _, chain = connected_components(coo_array(links, shape=(pictures, pictures)), False)
        return np.asarray(chain, np.int64)


def find_duplicates(looks: Sequence[Look | str], max_distance: int = MAX_DISTANCE) -> Duplicates:
    """The equal and the near pictures among images; those that do not decode are left out.

    Blank images, all one colour, are left out too: they are alike without being copies.
    """
    numbers: dict[bytes, int] = {}
    first: list[Look] = []
    picture = np.full(len(looks), -1, np.int64)
    for row, look in enumerate(looks):
        if isinstance(look, str) or look.blank:
            continue
        if look.pixels not in numbers:
            numbers[look.pixels] = len(first)
            first.append(look)
        picture[row] = numbers[look.pixels]
    return Duplicates(picture, _near(first, max_distance), max_distance)


@dataclass(frozen=True)
class Leak:
    """Of one split's `test_images`, how many have an equal or else a near copy in training.

    `examples` pairs the first test images with one of their copies, exact ones first.
    """

    rung: int
    test_images: int
    exact: int
    near: int
    examples: tuple[tuple[str, str], ...]


def leaks(
    duplicates: Duplicates,
    sample_names: Sequence[str],
    sides: Sequence[tuple[Integers, Integers]],
    *,
    examples: int = 5,
) -> tuple[Leak, ...]:
    """The leak of every split; `sides` holds the rows of its training and of its test images.

    Counted on pairs, not on chained sets: a test image leaks if a training image is within reach.
    Rows are int64 arrays (n,).
    """
    found = []
    for rung, (train, test) in enumerate(sides):
        exact, near = _training_copies(duplicates, train)
        own = duplicates.picture[test]
        copy = np.where(own < 0, -1, exact[own])
        near_copy = np.where((own < 0) | (copy >= 0), -1, near[own])
        named = [
            (sample_names[test[at]], sample_names[copies[at]])
            for copies in (copy, near_copy)
            for at in np.flatnonzero(copies >= 0)[:examples]
        ]
        counts = {"exact": int((copy >= 0).sum()), "near": int((near_copy >= 0).sum())}
        found.append(Leak(rung, len(test), **counts, examples=tuple(named[:examples])))
    return tuple(found)


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


def _near(pictures: list[Look], max_distance: int) -> NearPairs:
    hashed = np.array([n for n, look in enumerate(pictures) if look.hash is not None], np.int64)
    pairs = near_pairs(
        _matrix([look.hash for look in pictures if look.hash is not None], 32),
        _matrix([look.colours for look in pictures if look.hash is not None], 192),
        max_distance,
    )
    return NearPairs(hashed[pairs.first], hashed[pairs.second], pairs.distance, pairs.radius)


def _matrix(rows: list[bytes], width: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, width)


def _training_copies(duplicates: Duplicates, train: Integers) -> tuple[Integers, Integers]:
    """Per picture a training image that shows it, and one that shows a near picture, or -1."""
    # One place more than there are pictures, for the images that show none: it is index -1.
    exact = np.full(int(duplicates.picture.max(initial=-1)) + 2, -1, np.int64)
    shown = train[duplicates.picture[train] >= 0]
    exact[duplicates.picture[shown]] = shown
    near = np.full_like(exact, -1)
    for one, other in (
        (duplicates.near.first, duplicates.near.second),
        (duplicates.near.second, duplicates.near.first),
    ):
        trained = exact[other] >= 0
        near[one[trained]] = exact[other[trained]]
    return exact, near


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
