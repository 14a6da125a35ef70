"""Additive statistics per class, so that a split of classes costs no pass over the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError, UsageError
from oodml.fid.frechet import (
    TOLERANCE,
    FrechetTerms,
    assemble,
    frechet_terms,
    require_finite,
    terms_of_covariances,
)
from oodml.fid.matrix_root import BLOCK_ROWS, Matrix, Real, nuclear_norm

if TYPE_CHECKING:
    from oodml.features.features import Features

LEVELS = ("sample", "class")
Indices = Sequence[int] | npt.NDArray[np.int64]
# 8,192 points need 512 MiB of inner products.
GRAM_POINTS = 8192
# Moments have 16 digits: where the variance is below this part of the second moment, too few of
# them are left of it (cancellation), and it is recomputed from the points.
MOST_LOST = 1e-6


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, sum (d,) and sum of outer products (d, d) of points about a fixed centre, in float64.

    Moments of disjoint sets of points add; those of a subset can be taken away. All that are added
    or subtracted must share one centre, which `ClassMoments` sees to.
    """

    count: int
    total: Matrix
    scatter: Matrix

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.total + other.total, self.scatter + other.scatter
        )

    def __sub__(self, other: Moments) -> Moments:
        """The moments without those of `other`, which are among them."""
        if other.count > self.count:
            raise DataError(f"{other.count} points cannot be taken from {self.count}.")
        return Moments(
            self.count - other.count, self.total - other.total, self.scatter - other.scatter
        )

    @property
    def mean(self) -> Matrix:
        """The mean (d,), relative to the centre."""
        if self.count < 1:
            raise DataError("no points: a mean needs at least 1.")
        return self.total / self.count

    @property
    def covariance(self) -> Matrix:
        """The unbiased covariance (d, d), with n - 1 in the denominator."""
        if self.count < 2:
            raise DataError(f"{self.count} point(s): a covariance needs at least 2.")
        # The root of the count on both factors keeps the product symmetric to the last bit.
        scaled = self.total / np.sqrt(self.count)
        covariance: Matrix = np.outer(scaled, scaled)
        np.subtract(self.scatter, covariance, out=covariance)
        covariance /= self.count - 1
        return covariance


def moments_of(points: Matrix, weights: Matrix) -> Moments:
    """The moments of points (n, d) about their centre, each counted `weights` (n,) times.

    A weight of -1 stands for a point that is taken away, so counts may be negative.
    """
    weighted = points * weights[:, None]
    return Moments(round(float(weights.sum())), weighted.sum(axis=0), weighted.T @ points)


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Points sorted by class and centred on demand, from which moments of class sets are summed.

    A point is a sample at level "sample" and the mean of a class at level "class". `counts` (C,)
    are samples per class at both levels, `means` (C, d) float64 the class means minus `centre`
    (d,), the mean of all points. `values` (n, d) are the points as they were given, class after
    class; those of class `c` are the rows `starts[c]:starts[c + 1]`.
    """

    class_names: tuple[str, ...]
    level: str
    counts: npt.NDArray[np.int64]
    means: Matrix
    centre: Matrix
    values: Real
    starts: npt.NDArray[np.int64]

    @classmethod
    def from_features(cls, features: Features, level: str = "sample") -> ClassMoments:
        """Statistics of every class of `features`; keeps its values, in their dtype, by class.

        Raises DataError for NaN or infinity (rows named) and for a class without samples, and
        UsageError for an unknown level.
        """
        if level not in LEVELS:
            raise UsageError(f"level {level!r}; allowed are 'sample' and 'class'.")
        require_finite(features.values, "features")
        values, starts = _by_class(features)
        counts = np.diff(starts)
        means = _class_means(values, starts)
        weights = counts if level == "sample" else np.ones(len(counts))
        centre: Matrix = weights @ means / weights.sum()
        if level == "class":
            values, starts = means.copy(), np.arange(len(counts) + 1)
        means -= centre
        return cls(tuple(features.class_names), level, counts, means, centre, values, starts)

    @property
    def dimension(self) -> int:
        """The number of feature dimensions d."""
        return int(self.values.shape[1])

    def indices(self, class_names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The class indices of the named classes, in the given order; unknown ones raise."""
        positions = {name: index for index, name in enumerate(self.class_names)}
        missing = [name for name in class_names if name not in positions]
        if missing:
            raise DataError(
                f"{len(missing)} class(es) without features, such as {missing[0]!r};"
                " the split and the features belong to different collections."
            )
        return np.array([positions[name] for name in class_names], dtype=np.int64)

    def size(self, classes: Indices) -> int:
        """The number of points of the given classes."""
        chosen = np.asarray(classes, dtype=np.int64)
        return int((self.starts[chosen + 1] - self.starts[chosen]).sum())

    def rows(self, classes: Indices) -> npt.NDArray[np.int64]:
        """The positions in `values` of the points of the given classes, in ascending class index.

        A class that is named twice counts twice, here and below (a bootstrap draws so).
        """
        return rows_of(self.starts, classes)

    def points(self, classes: Indices) -> Matrix:
        """The centred points (n, d), float64, of the given classes in ascending class index."""
        return self._block(self.rows(classes))

    def of(self, classes: Indices) -> Moments:
        """The moments of the given classes together; the work grows with their points."""
        return self.of_rows(self.rows(classes))

    def of_rows(self, rows: npt.NDArray[np.int64]) -> Moments:
        """The moments of the points at the given positions in `values`."""
        block = self._block(rows[:BLOCK_ROWS])
        total, scatter = block.sum(axis=0), block.T @ block
        for start in range(BLOCK_ROWS, len(rows), BLOCK_ROWS):
            block = self._block(rows[start : start + BLOCK_ROWS])
            total += block.sum(axis=0)
            scatter += block.T @ block
        return Moments(len(rows), total, scatter)

    def _block(self, rows: npt.NDArray[np.int64]) -> Matrix:
        block: Matrix = self.values[rows].astype(np.float64)
        block -= self.centre
        return block


@dataclass(frozen=True, eq=False)
class PooledGram:
    """All inner products (n, n) of a pool's centred points; a split costs no d-dimensional work.

    For class level, or few samples: 0.5 ms a split at 98 points a side and d = 2048.
    """

    products: Matrix
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, statistics: ClassMoments) -> PooledGram:
        """The inner products of all points of `statistics`, 8 n^2 bytes, for at most 8,192."""
        classes = np.arange(len(statistics.starts) - 1)
        count = statistics.size(classes)
        if count > GRAM_POINTS:
            raise UsageError(
                f"{count} points; inner products are cached for at most {GRAM_POINTS}."
            )
        points = statistics.points(classes)
        return cls(points @ points.T, statistics.starts)

    def terms(self, train: Indices, test: Indices) -> FrechetTerms:
        """The exact Frechet terms between two sets of classes, as `split_terms` gives them."""
        first, second = rows_of(self.starts, train), rows_of(self.starts, test)
        if (len(first), tuple(first)) > (len(second), tuple(second)):
            first, second = second, first
        own_a, own_b = (self.products[np.ix_(rows, rows)] for rows in (first, second))
        cross = self.products[np.ix_(first, second)]
        mean = own_a.mean() + own_b.mean() - 2 * cross.mean()
        n, m = len(first), len(second)
        traces = tuple(
            float(own.trace() - own.sum() / len(own)) / (len(own) - 1) for own in (own_a, own_b)
        )
        cross -= cross.mean(axis=0)
        cross -= cross.mean(axis=1, keepdims=True)
        cross /= np.sqrt((n - 1) * (m - 1))
        return assemble(max(float(mean), 0.0), (traces[0], traces[1]), nuclear_norm(cross))


def split_terms(
    statistics: ClassMoments,
    train: Indices,
    test: Indices,
    *,
    train_moments: Moments | None = None,
    test_moments: Moments | None = None,
    tolerance: float = TOLERANCE,
) -> FrechetTerms:
    """The exact Frechet terms between two sets of classes, given by class index.

    Takes the points themselves while one side has at most d of them, the moments above; moments
    that the caller already holds (a trajectory updates them by the classes that moved) are used.
    `tolerance` as in `frechet_terms`: 1e-6 saves a search two thirds of the time on real features.
    The indices are int64 arrays (c,).
    """
    fewest = min(statistics.size(train), statistics.size(test))
    if fewest > statistics.dimension:
        a = train_moments or statistics.of(train)
        b = test_moments or statistics.of(test)
    if fewest <= statistics.dimension or _is_lost(a) or _is_lost(b):
        points = statistics.points(train), statistics.points(test)
        return frechet_terms(*points, tolerance=tolerance)
    # Both sides have more than d points, so their covariances are taken to be of full rank.
    return terms_of_covariances(a.mean - b.mean, a.covariance, b.covariance, tolerance=tolerance)


def rows_of(starts: npt.NDArray[np.int64], classes: Indices) -> npt.NDArray[np.int64]:
    """The positions `starts[c]` to `starts[c + 1]` of every class, in ascending class index.

    `starts` is (c + 1,) int64, the positions (n,) int64.
    """
    chosen = np.sort(np.asarray(classes, dtype=np.int64))
    sizes = starts[chosen + 1] - starts[chosen]
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts[chosen] - ends + sizes, sizes) + np.arange(total)


def _by_class(features: Features) -> tuple[Real, npt.NDArray[np.int64]]:
    labels = np.asarray(features.labels)
    counts = np.bincount(labels, minlength=len(features.class_names))
    if counts.min(initial=1) == 0:
        empty = features.class_names[int(np.argmin(counts))]
        raise DataError(f"class {empty!r} has no samples; leave it out of the class names.")
    values = features.values
    if np.any(np.diff(labels) < 0):
        values = values[np.argsort(labels, kind="stable")]
    return values, np.concatenate([[0], np.cumsum(counts)])


def _class_means(values: Real, starts: npt.NDArray[np.int64]) -> Matrix:
    means = np.empty((len(starts) - 1, values.shape[1]))
    for index, (start, stop) in enumerate(pairwise(starts)):
        means[index] = values[start:stop].mean(axis=0, dtype=np.float64)
    return means


def _is_lost(moments: Moments) -> bool:
    # Points that are all alike would have variances of rounding, negative ones among them.
    second = float(np.trace(moments.scatter)) / moments.count
    mean = moments.mean
    return second - float(mean @ mean) < MOST_LOST * second
