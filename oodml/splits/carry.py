"""Carry: the product behind a distance, handed on from split to split where few points move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from threading import Lock

import numpy as np

from oodml.fid.carried import MOST_POINTS, MOST_STEPS, CarriedProduct, Move
from oodml.fid.frechet import FrechetTerms
from oodml.fid.statistics import Moments, moments_of

# Below this dimension a distance takes milliseconds either way.
LEAST_DIMENSION = 512


class Carry:
    """The product of one split, made when it is first asked for, by whichever worker asks."""

    def __init__(self, make: Callable[[], CarriedProduct | None], steps: int) -> None:
        self.steps = steps
        self._make: Callable[[], CarriedProduct | None] | None = make
        self._product: CarriedProduct | None = None
        self._lock = Lock()

    @classmethod
    def of(cls, train: Moments, test: Moments) -> Carry | None:
        """That of a split of which only the moments are known; None where it is not worth it."""
        if len(train.total) < LEAST_DIMENSION:
            return None
        return cls(partial(CarriedProduct.of, train, test), 0)

    def after(self, move: Move, moments: CarriedMoments) -> Carry | None:
        """That of the split after a move that led to these moments; None where it ends here."""
        few = len(move.points) <= MOST_POINTS * move.points.shape[1]
        if not few or self.steps == MOST_STEPS:
            return None
        return Carry(partial(_made, self, move, moments), self.steps + 1)

    def terms(self, tolerance: float) -> FrechetTerms | None:
        """The Frechet terms; None where the direct way is as quick, or the bound is too wide."""
        product = self.product() if self.steps else None
        return None if product is None else product.terms(tolerance)

    def product(self) -> CarriedProduct | None:
        """The product; None where a covariance has no usable factor."""
        with self._lock:
            if self._make is not None:
                self._product = self._make()
                # What it was made from holds the split before, and all before that.
                self._make = None
            return self._product


def _made(before: Carry, move: Move, moments: CarriedMoments) -> CarriedProduct | None:
    product = before.product()
    carried = None if product is None else product.after(move)
    return carried or CarriedProduct.of(*moments.both)


@dataclass(frozen=True, eq=False)
class CarriedMoments:
    """Moments of train and test: those of an earlier split, and the moves since.

    They are summed up only when somebody asks, which most steps of a walk do not: a distance is
    carried without them.
    """

    base: tuple[Moments, Moments]
    moves: tuple[Move, ...] = ()

    def after(self, move: Move) -> CarriedMoments:
        """With one more move."""
        return CarriedMoments(self.base, (*self.moves, move))

    @cached_property
    def both(self) -> tuple[Moments, Moments]:
        """The moments of train and of test."""
        if not self.moves:
            return self.base
        points = np.concatenate([move.points for move in self.moves])
        to_train = np.concatenate([move.to_train for move in self.moves])
        to_test = np.concatenate([move.to_test for move in self.moves])
        joined = moments_of(points, to_train)
        if (to_test == -to_train).all():
            return self.base[0] + joined, self.base[1] - joined
        return self.base[0] + joined, self.base[1] + moments_of(points, to_test)
