"""The shift between two collections of features, each with classes of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oodml.errors import DataError
from oodml.fid.features import Features
from oodml.files import digest

SIDES = ("A", "B")


@dataclass(frozen=True)
class Sides:
    """The class names of two collections in their joint pool; A stands for train, B for test."""

    train_classes: tuple[str, ...]
    test_classes: tuple[str, ...]


def joined(a: Features, b: Features) -> tuple[Features, Sides]:
    """Both collections as one pool, and which of its classes came from which.

    Classes are named `A/name` and `B/name`, so that equal names stay apart. The pool can be given
    to `measure_shift` with the sides as its split. Raises `DataError` if the two were made by
    different networks, inputs or precisions, or with different dimensions.
    """
    if a.source.network != b.source.network:
        raise DataError(
            f"A was made by {a.source.network}, B by {b.source.network}; distances between "
            "different networks, inputs or precisions mean nothing."
        )
    if a.values.shape[1] != b.values.shape[1]:
        raise DataError(f"A has {a.values.shape[1]} dimensions, B has {b.values.shape[1]}.")
    names = [tuple(f"{s}/{n}" for n in f.class_names) for s, f in zip(SIDES, (a, b), strict=True)]
    source = a.source.with_data(
        f"{a.source.dataset} and {b.source.dataset}",
        digest([a.source.fingerprint, b.source.fingerprint], 16),
    )
    pool = Features(
        np.concatenate([a.values, b.values]),
        np.concatenate([a.labels, b.labels + len(names[0])]),
        (*names[0], *names[1]),
        source,
    )
    return pool, Sides(*names)
