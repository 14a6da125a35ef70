"""Sides: train and test units on their way along a trajectory, with what moving them needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from oodml.fid.arrays import Matrix
from oodml.fid.carried import Move
from oodml.fid.frechet import TOLERANCE, FrechetTerms
from oodml.fid.side_by_side import Task, begin, each
from oodml.fid.statistics import ClassMoments, Moments
from oodml.fid.terms import split_terms
from oodml.splits.carry import CarriedMoments, Carry
from oodml.splits.pool import Pool, Units

WALK_TOLERANCE = 1e-6
_NONE: Units = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Sides:
    """Unit indices of both sides, ascending, and the moments of each where they are worth it.

    Moments are carried from step to step by the units that move, so that a step costs their
    samples only. Below one sample a dimension the samples themselves are faster, and exact.
    """

    pool: Pool
    train: Units
    test: Units
    moments: CarriedMoments | None = None
    carry: Carry | None = None

    @classmethod
    def of(cls, pool: Pool, train: Units, test: Units) -> Sides:
        """The sides with these units, summed up from scratch."""
        train, test = np.sort(train), np.sort(test)
        if _few(pool, train, test):
            return cls(pool, train, test)
        first, second = each(pool.statistics.of, (train, test))
        return cls(pool, train, test, CarriedMoments((first, second)), Carry.of(first, second))

    @property
    def train_moments(self) -> Moments | None:
        """The moments of the train units, where there are more points than dimensions."""
        return None if self.moments is None else self.moments.both[0]

    @property
    def test_moments(self) -> Moments | None:
        """Those of the test units."""
        return None if self.moments is None else self.moments.both[1]

    @cached_property
    def measurement(self) -> Task[FrechetTerms]:
        """The task that gives `terms`; beside others it is under way from the first look on."""
        return begin(self._quick_terms())

    @cached_property
    def terms(self) -> FrechetTerms:
        """The Frechet distance between the two sides, its bound at most 1e-6 of their traces.

        On real features the same digits as `exact_terms` in a third of the time; only the bound on
        them is wider.
        """
        return self.measurement.result()

    @cached_property
    def exact_terms(self) -> FrechetTerms:
        """The Frechet distance between the two sides, bounded as tightly as it can be."""
        return self.terms if is_tight(self.terms) else self._terms(TOLERANCE)()

    def _quick_terms(self) -> Callable[[], FrechetTerms]:
        direct = self._terms(WALK_TOLERANCE)
        return direct if self.carry is None else partial(_carried, self.carry, direct)

    def _terms(self, tolerance: float) -> Callable[[], FrechetTerms]:
        # Work that held on to these sides would keep them, and their moments, from being freed.
        if self.pool.gram is not None and self.moments is None:
            return partial(self.pool.gram.terms, self.train, self.test)
        return partial(
            _direct, self.pool.statistics, self.train, self.test, self.moments, tolerance
        )

    @property
    def fid(self) -> float:
        """The exact Frechet distance, in squared feature units."""
        return self.terms.value

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
        return self._change(to_test, to_train, arrive=True)

    def without(self, from_train: Units, from_test: Units) -> Sides:
        """The sides after these units have left the split altogether."""
        return self._change(from_train, from_test, arrive=False)

    def _change(self, leave_train: Units, leave_test: Units, *, arrive: bool) -> Sides:
        come_train, come_test = (leave_test, leave_train) if arrive else (_NONE, _NONE)
        train = np.union1d(np.setdiff1d(self.train, leave_train), come_train)
        test = np.union1d(np.setdiff1d(self.test, leave_test), come_test)
        if _few(self.pool, train, test):
            return Sides(self.pool, train, test)
        if self.moments is None:
            return Sides.of(self.pool, train, test)
        move = _move(self.pool.statistics, leave_train, leave_test, arrive)
        moments = self.moments.after(move)
        carry = None if self.carry is None else self.carry.after(move, moments)
        if carry is None:
            moments = CarriedMoments(moments.both)
            carry = Carry.of(*moments.base)
        return Sides(self.pool, train, test, moments, carry)

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


def _direct(
    statistics: ClassMoments,
    train: Units,
    test: Units,
    moments: CarriedMoments | None,
    tolerance: float,
) -> FrechetTerms:
    first, second = (None, None) if moments is None else moments.both
    return split_terms(
        statistics, train, test, train_moments=first, test_moments=second, tolerance=tolerance
    )


def _carried(carry: Carry, direct: Callable[[], FrechetTerms]) -> FrechetTerms:
    return carry.terms(WALK_TOLERANCE) or direct()


def _move(statistics: ClassMoments, leave_train: Units, leave_test: Units, arrive: bool) -> Move:
    points = [statistics.points(units) for units in (leave_test, leave_train)]
    coming, going = (np.ones(len(side)) for side in points)
    if arrive:
        to_train = np.concatenate([coming, -going])
        return Move(np.concatenate(points), to_train, -to_train)
    zeros = np.zeros(len(coming)), np.zeros(len(going))
    return Move(
        np.concatenate(points),
        np.concatenate([zeros[0], -going]),
        np.concatenate([-coming, zeros[1]]),
    )


def is_tight(terms: FrechetTerms) -> bool:
    """Whether a distance is bounded as tightly as `frechet_terms` bounds it by default."""
    return terms.bound <= TOLERANCE * terms.covariance


def _few(pool: Pool, train: Units, test: Units) -> bool:
    return bool(min(pool.sizes[train].sum(), pool.sizes[test].sum()) <= pool.statistics.dimension)
