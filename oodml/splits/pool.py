"""Pool: the classes or groups that a walk moves, and what measuring them needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oodml.errors import UsageError, unknown_name
from oodml.fid.arrays import Matrix
from oodml.fid.candidates import PooledGram
from oodml.fid.statistics import ClassMoments
from oodml.splits.settings import UNITS

if TYPE_CHECKING:
    from oodml.features.features import Features

Units = npt.NDArray[np.int64]
# Inner products of 4,096 points take 128 MiB; beyond, a distance costs far more than its products.
GRAM_POINTS = 4096


@dataclass(frozen=True, eq=False)
class Pool:
    """Units of exchange (classes, or whole groups of classes) with their additive statistics.

    `statistics` has one entry per unit; `members` holds the class names of every unit. `gram`, the
    inner products of all points, is there when points are few: then no distance costs
    d-dimensional work.
    """

    statistics: ClassMoments
    members: tuple[tuple[str, ...], ...]
    gram: PooledGram | None

    @classmethod
    def of(cls, features: Features, *, level: str = "sample", by: str = "class") -> Pool:
        """The units of `features`: "class", or "group" for the superclasses of its classes.

        Raises `UsageError` when groups are asked for and the features know none.
        """
        if by not in UNITS:
            raise unknown_name("unit of exchange", by, UNITS)
        statistics = ClassMoments.from_features(features, level)
        members: tuple[tuple[str, ...], ...] = tuple((name,) for name in statistics.class_names)
        if by == "group":
            if features.groups is None:
                raise UsageError(
                    "these features know no groups, so --by group has nothing to move; use a "
                    "collection with groups, or --by class."
                )
            statistics, members = _by_group(statistics, features.groups)
        few = len(statistics.values) <= min(GRAM_POINTS, 2 * statistics.dimension)
        return cls(statistics, members, PooledGram.of(statistics) if few else None)

    @cached_property
    def sizes(self) -> Units:
        """Points per unit."""
        return np.diff(self.statistics.starts)

    @cached_property
    def classes(self) -> Units:
        """Classes per unit."""
        return np.array([len(names) for names in self.members], dtype=np.int64)

    @cached_property
    def squares(self) -> Matrix:
        """The squared length of every unit's centred mean."""
        means = self.statistics.means
        result: Matrix = np.einsum("ij,ij->i", means, means)
        return result

    def names(self, units: Units) -> tuple[str, ...]:
        """The sorted class names of these units."""
        return tuple(sorted(name for unit in units for name in self.members[unit]))

    def units(self, class_names: Sequence[str]) -> Units:
        """The units that make up exactly these classes.

        Raises `DataError` for unknown classes and `UsageError` for half a group.
        """
        owner = {name: unit for unit, names in enumerate(self.members) for name in names}
        if not set(class_names) <= set(owner):
            replace(self.statistics, class_names=tuple(owner)).indices(class_names)
        units = np.unique(np.array([owner[name] for name in class_names], dtype=np.int64))
        for unit in units:
            missing = sorted(set(self.members[unit]) - set(class_names))
            if missing:
                raise UsageError(
                    f"the start split cuts group {self.statistics.class_names[unit]!r} in two "
                    f"({missing[0]!r} is elsewhere); --by group needs whole groups on a side."
                )
        return units


def _by_group(
    statistics: ClassMoments, groups: Sequence[str]
) -> tuple[ClassMoments, tuple[tuple[str, ...], ...]]:
    names = tuple(sorted(set(groups)))
    index = np.array([names.index(group) for group in groups], dtype=np.int64)
    order = np.argsort(index, kind="stable")
    points = np.diff(statistics.starts)[order]
    rows = np.concatenate(
        [np.arange(statistics.starts[c], statistics.starts[c + 1]) for c in order]
    )
    totals = np.zeros((len(names), statistics.dimension))
    np.add.at(totals, index[order], statistics.means[order] * points[:, None])
    sizes = np.bincount(index[order], weights=points).astype(np.int64)
    grouped = replace(
        statistics,
        class_names=names,
        counts=np.bincount(index, weights=statistics.counts).astype(np.int64),
        means=totals / sizes[:, None],
        values=statistics.values[rows],
        starts=np.concatenate([[0], np.cumsum(sizes)]),
    )
    members = tuple(
        tuple(statistics.class_names[c] for c in np.flatnonzero(index == g))
        for g in range(len(names))
    )
    return grouped, members
