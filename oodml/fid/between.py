"""The shift between two collections of features, each with classes of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from oodml.errors import DataError
from oodml.features.features import Features, FeatureSource
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
    named = [
        replace(features, class_names=tuple(f"{side}/{name}" for name in features.class_names))
        for side, features in zip(SIDES, (a, b), strict=True)
    ]
    source = a.source.with_data(
        f"{a.source.dataset} and {b.source.dataset}",
        digest([a.source.fingerprint, b.source.fingerprint], 16),
    )
    sides = Sides(named[0].class_names, named[1].class_names)
    return concatenated(named[0], named[1], source), sides


def concatenated(a: Features, b: Features, source: FeatureSource) -> Features:
    """The samples of `a`, then those of `b`, as one pool; no class may be in both."""
    return Features(
        np.concatenate([a.values, b.values]),
        np.concatenate([a.labels, b.labels + len(a.class_names)]),
        (*a.class_names, *b.class_names),
        source,
        groups=None if a.groups is None or b.groups is None else (*a.groups, *b.groups),
    )
