"""Unbiased kernel distances between class sets (KID, MMD) from sums over pairs of classes.

MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), the first two over different points
(arXiv 0805.2368). The sums over every pair of classes are taken once; a split then costs a
quadratic form in them, microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.fid.class_moments import ClassMoments, Indices
from oodml.fid.matrix_root import Matrix, Real

ROWS = 1024
MEDIAN_POINTS = 1000
Kernel = Callable[[Matrix, Matrix], Matrix]


@dataclass(frozen=True, eq=False)
class KernelSums:
    """Kernel values summed over every pair of classes.

    `pairs` is (C, C), `own` (C,) the sums of points with themselves, `sizes` (C,) the points of
    each class; `kernel` says which kernel in words.
    """

    kernel: str
    pairs: Matrix
    own: Matrix
    sizes: npt.NDArray[np.int64]

    def squared_distance(self, train: Indices, test: Indices) -> float:
        """The unbiased squared MMD between two sets of classes; it can fall below 0.

        Raises DataError when a side has fewer than 2 points.
        """
        a, b = np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64)
        n, m = int(self.sizes[a].sum()), int(self.sizes[b].sum())
        if min(n, m) < 2:
            raise DataError(f"{n} and {m} points; a kernel distance needs at least 2 on each side.")
        within_a = (self.pairs[np.ix_(a, a)].sum() - self.own[a].sum()) / (n * (n - 1))
        within_b = (self.pairs[np.ix_(b, b)].sum() - self.own[b].sum()) / (m * (m - 1))
        return float(within_a + within_b - 2 * self.pairs[np.ix_(a, b)].sum() / (n * m))


def kid_sums(statistics: ClassMoments) -> KernelSums:
    """The sums for KID: kernel (x.y / d + 1)^3 of the uncentred points (arXiv 1801.01401).

    The distance is in the kernel's own units; papers often print 1,000 times it.
    """
    dimension = statistics.dimension

    def cubic(inner: Matrix, _: Matrix) -> Matrix:
        inner /= dimension
        inner += 1.0
        cube: Matrix = inner * inner
        cube *= inner
        return cube

    return _sums(statistics, cubic, "(x.y / d + 1)^3")


def mmd_sums(statistics: ClassMoments, bandwidth: float | None = None) -> KernelSums:
    """The sums for MMD with the kernel exp(-|x - y|^2 / (2 bandwidth^2)).

    `bandwidth`, in feature units, is by default the median distance between the points (1,000 of
    them, evenly spread over the classes, where there are more): it depends on the pool only, so
    all splits of a pool share it.
    """
    width = median_distance(statistics) if bandwidth is None else bandwidth
    if not width > 0:
        raise DataError(
            f"kernel bandwidth {width:.3g}; it must be positive, and points must differ."
        )

    def gaussian(inner: Matrix, norms: Matrix) -> Matrix:
        inner *= -2.0
        inner += norms
        np.maximum(inner, 0.0, out=inner)
        inner *= -0.5 / width**2
        return np.exp(inner, out=inner)

    return _sums(statistics, gaussian, f"exp(-|x - y|^2 / (2 * {width:.6g}^2))")


def median_distance(statistics: ClassMoments) -> float:
    """The median distance between two different points of the pool, in feature units."""
    values = statistics.values
    picked = np.linspace(0, len(values) - 1, min(len(values), MEDIAN_POINTS)).astype(np.int64)
    points = values[picked].astype(np.float64) - statistics.centre
    norms = np.einsum("ij,ij->i", points, points)
    squares = norms[:, None] + norms[None, :] - 2 * points @ points.T
    upper = squares[np.triu_indices(len(points), 1)]
    return float(np.median(np.sqrt(np.clip(upper, 0.0, None))))


def _sums(statistics: ClassMoments, kernel: Kernel, words: str) -> KernelSums:
    values, starts = statistics.values, statistics.starts
    classes = len(starts) - 1
    pairs, own = np.zeros((classes, classes)), np.zeros(classes)
    for first, last in _spans(starts):
        left = values[starts[first] : starts[last]].astype(np.float64)
        left_norms = np.einsum("ij,ij->i", left, left)
        for other, end in _spans(starts):
            if other < first:
                continue
            right = values[starts[other] : starts[end]].astype(np.float64)
            norms = left_norms[:, None] + np.einsum("ij,ij->i", right, right)[None, :]
            block = kernel(left @ right.T, norms)
            if other == first:
                own[first:last] = _by_class(block.diagonal(), starts, first, last)
            rows = np.add.reduceat(block, starts[first:last] - starts[first], axis=0)
            sums = np.add.reduceat(rows, starts[other:end] - starts[other], axis=1)
            pairs[first:last, other:end] = sums
            pairs[other:end, first:last] = sums.T
    return KernelSums(words, pairs, own, np.diff(starts))


def _by_class(diagonal: Real, starts: npt.NDArray[np.int64], first: int, last: int) -> Matrix:
    sums: Matrix = np.add.reduceat(diagonal, starts[first:last] - starts[first])
    return sums


def _spans(starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of whole classes of about ROWS points."""
    first = 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + ROWS, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last
