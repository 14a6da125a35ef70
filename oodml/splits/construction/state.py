"""The data of a walk: a pool of units, the two sides of a split, and the record of a split.

A `Pool` holds the classes or groups that can move, `Sides` one split of them with its moments and
distance, and a `State` what is recorded of a split after the walk has left it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oodml.errors import UsageError, unknown_name
from oodml.fid.class_moments import ClassMoments, Moments, PooledGram, moments_of, split_terms
from oodml.fid.frechet import TOLERANCE, FrechetTerms
from oodml.fid.matrix_root import Matrix
from oodml.parallel import each, each_ahead
from oodml.splits.ladder import UNITS

if TYPE_CHECKING:
    from oodml.features.features import Features

Units = npt.NDArray[np.int64]
# Inner products of 4,096 points take 128 MiB; beyond, a distance costs far more than its products.
GRAM_POINTS = 4096
# Threads cost more than they gain for the distances of smaller pools.
FEWEST_POINTS = 512
# Bound of the distances that decide a step, as a part of the traces; see `Sides.terms`.
WALK_TOLERANCE = 1e-6


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
                    "these features know no groups, so by='group' has nothing to move; use a "
                    "collection with groups, or by='class'."
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
                    f"({missing[0]!r} is elsewhere); by='group' needs whole groups on a side."
                )
        return units


@dataclass(frozen=True, eq=False)
class Sides:
    """A split as ascending unit indices, with the moments of both sides where they save work.

    Moments are updated by the units that move, so that a step costs their samples only. Up to one
    sample a dimension the samples themselves are faster, and exact: `moments` is then None.
    """

    pool: Pool
    train: Units
    test: Units
    moments: tuple[Moments, Moments] | None = None

    @classmethod
    def of(cls, pool: Pool, train: Units, test: Units) -> Sides:
        """The sides with these units, summed up from scratch."""
        train, test = np.sort(train), np.sort(test)
        if _few(pool, train, test):
            return cls(pool, train, test)
        first, second = each(pool.statistics.of, (train, test))
        return cls(pool, train, test, (first, second))

    @property
    def terms(self) -> FrechetTerms:
        """The Frechet distance between the two sides, its bound at most 1e-6 of their traces.

        On real features the same digits as `exact_terms` in a third of the time; only the bound on
        them is wider. Computed once.
        """
        # Before Python 3.12 a cached_property computes for one object at a time, in all threads.
        if "_terms" not in vars(self):
            vars(self)["_terms"] = self._measured(WALK_TOLERANCE)
        terms: FrechetTerms = vars(self)["_terms"]
        return terms

    @cached_property
    def exact_terms(self) -> FrechetTerms:
        """The Frechet distance between the two sides, bounded as tightly as it can be."""
        return self.terms if is_tight(self.terms) else self._measured(TOLERANCE)

    @property
    def fid(self) -> float:
        """The exact Frechet distance, in squared feature units."""
        return self.terms.value

    def _measured(self, tolerance: float) -> FrechetTerms:
        if self.pool.gram is not None and self.moments is None:
            return self.pool.gram.terms(self.train, self.test)
        first, second = self.moments or (None, None)
        return split_terms(
            self.pool.statistics,
            self.train,
            self.test,
            train_moments=first,
            test_moments=second,
            tolerance=tolerance,
        )

    @cached_property
    def nearness(self) -> tuple[Matrix, Matrix]:
        """The published key of every train and every test unit; small means like the other side.

        For a unit with mean m: ||m - mean of the other side|| - ||m - mean of its own side||
        (arXiv:2107.09562). The means of sides weight units by their points.
        """
        to_train, to_test = self._distances(self.train), self._distances(self.test)
        return (to_test - to_train)[self.train], (to_train - to_test)[self.test]

    def exchange(self, to_test: Units, to_train: Units) -> Sides:
        """The sides after `to_test` and `to_train` have changed sides."""
        train = np.union1d(np.setdiff1d(self.train, to_test), to_train)
        test = np.union1d(np.setdiff1d(self.test, to_train), to_test)
        if self.moments is None or _few(self.pool, train, test):
            return Sides.of(self.pool, train, test)
        coming, going = (self.pool.statistics.points(units) for units in (to_train, to_test))
        weights = np.repeat([1.0, -1.0], [len(coming), len(going)])
        change = moments_of(np.concatenate([coming, going]), weights)
        return Sides(self.pool, train, test, (self.moments[0] + change, self.moments[1] - change))

    def without(self, from_train: Units, from_test: Units) -> Sides:
        """The sides after these units have left the split altogether."""
        train, test = np.setdiff1d(self.train, from_train), np.setdiff1d(self.test, from_test)
        if self.moments is None or _few(self.pool, train, test):
            return Sides.of(self.pool, train, test)
        first, second = (self.pool.statistics.of(units) for units in (from_train, from_test))
        return Sides(self.pool, train, test, (self.moments[0] - first, self.moments[1] - second))

    def _distances(self, side: Units) -> Matrix:
        """From every unit's mean to the mean of one side."""
        weights = np.zeros(len(self.pool.sizes))
        weights[side] = self.pool.sizes[side]
        means = self.pool.statistics.means
        centre = weights @ means / weights.sum()
        # One product with all means costs less than a copy of those of one side.
        squared = self.pool.squares - 2 * (means @ centre) + centre @ centre
        result: Matrix = np.sqrt(np.clip(squared, 0.0, None))
        return result


@dataclass(frozen=True, eq=False)
class State:
    """A split on the trajectory: its units and exact terms, without the moments behind them."""

    kind: str
    train: Units
    test: Units
    terms: FrechetTerms

    @classmethod
    def of(cls, kind: str, sides: Sides) -> State:
        """The record of `sides`."""
        return cls(kind, sides.train, sides.test, sides.terms)

    @property
    def fid(self) -> float:
        """The exact Frechet distance, in squared feature units."""
        return self.terms.value


def measured(proposals: Iterable[Sides]) -> Iterator[Sides]:
    """The proposed splits in their order, with their distances computed, several in parallel.

    Those that follow a rejected split are discarded. The accepted ones and their bits do not depend
    on the number of workers.
    """
    waiting = iter(proposals)
    first = next(waiting, None)
    if first is None:
        return
    rest = chain((first,), waiting)
    if len(first.pool.statistics.values) < FEWEST_POINTS:
        yield from rest
    else:
        yield from each_ahead(lambda sides: sides.terms, rest)


def is_tight(terms: FrechetTerms) -> bool:
    """Whether a distance is bounded as tightly as `frechet_terms` bounds it by default."""
    return terms.bound <= TOLERANCE * terms.covariance


def _few(pool: Pool, train: Units, test: Units) -> bool:
    return bool(min(pool.sizes[train].sum(), pool.sizes[test].sum()) <= pool.statistics.dimension)


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
