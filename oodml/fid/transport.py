"""The optimal transport map between two Gaussians, and what it says about exchanges of classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.fid.arrays import Matrix
from oodml.fid.statistics import ClassMoments, Indices

# Below this part of the largest eigenvalue the map is not determined by the data.
RIDGE = 1e-12
Classes = npt.NDArray[np.int64]


def transport_map(a: Matrix, b: Matrix) -> Matrix:
    """T (d, d), symmetric positive definite, with T a T = b: the map from N(0, a) to N(0, b).

    T = a^(-1/2) (a^(1/2) b a^(1/2))^(1/2) a^(-1/2); its inverse is the map from b to a. The first
    order change of the Frechet distance is tr((I - T) da) + tr((I - T^-1) db) from the covariances.
    Both are raised by 1e-12 of their largest eigenvalue, so that singular ones have a map too.
    """
    root, inverse = _root_and_inverse(a)
    middle = root @ b @ root
    middle += np.eye(len(a)) * (RIDGE * float(np.trace(middle)) / len(a))
    values, vectors = np.linalg.eigh(middle)
    mapped = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    result: Matrix = inverse @ mapped @ inverse
    return (result + result.T) / 2


def _root_and_inverse(covariance: Matrix) -> tuple[Matrix, Matrix]:
    values, vectors = np.linalg.eigh(covariance)
    if not values[-1] > 0:
        raise DataError("a covariance without spread has no transport map.")
    roots = np.sqrt(np.clip(values, 0.0, None) + RIDGE * values[-1])
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def exchange_lower_bounds(
    statistics: ClassMoments, train: Indices, test: Indices, transport: Matrix
) -> Matrix:
    """Lower bounds (train classes, test classes) of the distance after exchanging two classes.

    For every positive definite T, Tr((S1 S2)^(1/2)) <= (tr(T S1) tr(T^-1 S2))^(1/2), with equality
    at the transport map between the two sides as they are (Alberti 1983). Both traces are additive
    over classes, so all exchanges cost one quadratic form per class. The bound is tight without an
    exchange and looser the more a class weighs; it needs 8 C^2 bytes for C classes.
    """
    first, second = np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64)
    forward = _Quadratic(statistics, transport).after_exchange(first, second)
    inverse = np.asarray(np.linalg.inv(transport), dtype=np.float64)
    backward = _Quadratic(statistics, inverse).after_exchange(second, first).T
    plain = _Quadratic(statistics, None)
    own = plain.after_exchange(first, second) + plain.after_exchange(second, first).T
    trace = np.sqrt(np.clip(forward * backward, 0.0, None))
    result: Matrix = _mean_terms(statistics, first, second) + own - 2 * trace
    return result


class _Quadratic:
    """tr(M S) of class sets, from sum x'Mx of every class and s'M s of every pair of class sums."""

    def __init__(self, statistics: ClassMoments, metric: Matrix | None) -> None:
        self.sizes = np.diff(statistics.starts)
        self.sums = statistics.means * self.sizes[:, None]
        self.pairs = (self.sums if metric is None else self.sums @ metric) @ self.sums.T
        self.own = np.empty(len(self.sizes))
        for index in range(len(self.sizes)):
            points = statistics.points([index])
            mapped = points if metric is None else points @ metric
            self.own[index] = np.einsum("ij,ij->", mapped, points)

    def after_exchange(self, side: Classes, other: Classes) -> Matrix:
        """tr(M S) of `side` after its class (row) was exchanged for one of `other` (column)."""
        count = self.sizes[side].sum() - self.sizes[side][:, None] + self.sizes[other][None, :]
        own = self.own[side].sum() - self.own[side][:, None] + self.own[other][None, :]
        to_side, to_other = self.pairs[:, side].sum(axis=1), self.pairs.diagonal()
        total = to_side[side].sum() + to_other[side][:, None] + to_other[other][None, :]
        total = total - 2 * to_side[side][:, None] + 2 * to_side[other][None, :]
        total = total - 2 * self.pairs[np.ix_(side, other)]
        result: Matrix = (own - total / count) / (count - 1)
        return result


def _mean_terms(statistics: ClassMoments, first: Classes, second: Classes) -> Matrix:
    sizes = np.diff(statistics.starts).astype(np.float64)
    sums = statistics.means * sizes[:, None]
    terms = np.empty((len(first), len(second)))
    for row, leaving in enumerate(first):
        change = sums[second] - sums[leaving]
        moved = sizes[second] - sizes[leaving]
        mean_a = (sums[first].sum(axis=0) + change) / (sizes[first].sum() + moved)[:, None]
        mean_b = (sums[second].sum(axis=0) - change) / (sizes[second].sum() - moved)[:, None]
        terms[row] = ((mean_a - mean_b) ** 2).sum(axis=1)
    return terms
