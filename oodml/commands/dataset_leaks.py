"""Duplicates across the two sides of a ladder's rungs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oodml.errors import DataError

if TYPE_CHECKING:
    from oodml.data.check import Leak, PoolCheck
    from oodml.data.check.duplicates import Integers
    from oodml.data.dataset import Dataset
    from oodml.splits.ladder import Ladder


def open_ladder(path: Path) -> Ladder:
    """The ladder in a file, read before the images so that a wrong file costs no time."""
    from oodml.splits.ladder import Ladder

    return Ladder.load(path)


def ladder_leaks(ladder: Ladder, check: PoolCheck) -> tuple[Leak, ...]:
    """Per rung, the test images with a copy in training.

    Raises `DataError` if the ladder was not built on the pool, with or without the images that do
    not decode.
    """
    from oodml.data.check import leaks

    pool, rows = _pool_of(ladder, check)
    sides = [
        (pool.of_classes(rung.train_classes), pool.of_classes(rung.test_classes))
        for rung in ladder.rungs
    ]
    return leaks(
        check.duplicates,
        check.dataset.sample_names,
        [(rows[train], rows[test]) for train, test in sides],
    )


def _pool_of(ladder: Ladder, check: PoolCheck) -> tuple[Dataset, Integers]:
    """What the ladder was built on, everything or what decodes, and where it stands."""
    dataset = check.dataset
    for rows in (np.arange(len(dataset)), check.decoding):
        pool = dataset.take(rows)
        if pool.fingerprint == ladder.features.fingerprint:
            return pool, rows
    if ladder.measured or not set(ladder.class_sizes) <= set(dataset.class_names):
        raise DataError(
            f"the ladder was built for dataset {ladder.features.dataset!r} with fingerprint "
            f"{ladder.features.fingerprint or 'unknown'}, but {dataset.source} has "
            f"{dataset.fingerprint}; name the images that the ladder was built on."
        )
    return dataset, np.arange(len(dataset))
