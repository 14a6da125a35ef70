"""Sides: train and test classes on their way along a trajectory, with what moving them needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from oodml.fid.frechet import FrechetTerms
from oodml.fid.shift import split_terms
from oodml.fid.statistics import ClassMoments, Moments

Classes = npt.NDArray[np.int64]
_NONE: Classes = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Sides:
    """Class indices of both sides, ascending, and the moments of each where they are worth it.

    Moments are carried from step to step by the classes that move, so that a step costs their
    samples only. Below one sample a dimension the samples themselves are faster, and exact.
    """

    statistics: ClassMoments
    train: Classes
    test: Classes
    train_moments: Moments | None
    test_moments: Moments | None

    @classmethod
    def of(cls, statistics: ClassMoments, train: Classes, test: Classes) -> Sides:
        """The sides with these class indices, summed up from scratch."""
        train, test = np.sort(train), np.sort(test)
        if min(statistics.size(train), statistics.size(test)) <= statistics.dimension:
            return cls(statistics, train, test, None, None)
        return cls(statistics, train, test, statistics.of(train), statistics.of(test))

    @cached_property
    def terms(self) -> FrechetTerms:
        """The exact Frechet distance between the two sides."""
        return split_terms(
            self.statistics,
            self.train,
            self.test,
            train_moments=self.train_moments,
            test_moments=self.test_moments,
        )

    @property
    def fid(self) -> float:
        return self.terms.value

    def nearest_to_other(self) -> tuple[Classes, Classes]:
        """Train and test classes, those nearest to the other side first (ties by index).

        The published key of class C with mean m: ||m - other side's mean|| - ||m - own mean||
        (arXiv:2107.09562); means are weighted by class size at sample level.
        """
        mean_train, mean_test = self._mean(self.train), self._mean(self.test)
        return (
            self._ranked(self.train, mean_train, mean_test),
            self._ranked(self.test, mean_test, mean_train),
        )

    def exchange(self, to_test: Classes, to_train: Classes) -> Sides:
        """The sides after `to_test` and `to_train` have changed sides."""
        return self._change(to_test, to_train, arrive=True)

    def without(self, from_train: Classes, from_test: Classes) -> Sides:
        """The sides after these classes have left the split altogether."""
        return self._change(from_train, from_test, arrive=False)

    def _change(self, leave_train: Classes, leave_test: Classes, *, arrive: bool) -> Sides:
        come_train, come_test = (leave_test, leave_train) if arrive else (_NONE, _NONE)
        train = np.union1d(np.setdiff1d(self.train, leave_train), come_train)
        test = np.union1d(np.setdiff1d(self.test, leave_test), come_test)
        if self.train_moments is None or self.test_moments is None:
            return Sides.of(self.statistics, train, test)
        if (
            min(self.statistics.size(train), self.statistics.size(test))
            <= self.statistics.dimension
        ):
            return Sides(self.statistics, train, test, None, None)
        left_train, left_test = self.statistics.of(leave_train), self.statistics.of(leave_test)
        train_moments = self.train_moments - left_train
        test_moments = self.test_moments - left_test
        if arrive:
            train_moments, test_moments = train_moments + left_test, test_moments + left_train
        return Sides(self.statistics, train, test, train_moments, test_moments)

    def _mean(self, classes: Classes) -> npt.NDArray[np.float64]:
        starts = self.statistics.starts
        weights = (starts[classes + 1] - starts[classes]).astype(np.float64)
        mean: npt.NDArray[np.float64] = weights @ self.statistics.means[classes] / weights.sum()
        return mean

    def _ranked(
        self,
        classes: Classes,
        own: npt.NDArray[np.float64],
        other: npt.NDArray[np.float64],
    ) -> Classes:
        means = self.statistics.means[classes]
        key = np.linalg.norm(means - other, axis=1) - np.linalg.norm(means - own, axis=1)
        ranked: Classes = classes[np.argsort(key, kind="stable")]
        return ranked
