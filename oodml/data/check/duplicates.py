"""Images that are the same picture, or nearly so, gathered into sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from oodml.data.check.look import Look
from oodml.data.check.nearby import MAX_DISTANCE, NearPairs, near_pairs

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
