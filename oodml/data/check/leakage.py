"""Test images whose copy is among the training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oodml.data.check.duplicates import Duplicates

Integers = npt.NDArray[np.int64]


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
