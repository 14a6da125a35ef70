"""A distance carried from split to split by the few points that change sides.

With S1 = R R' the trace term needs the eigenvalues of M = R' S2 R. Reducing M to them cannot be
avoided; making it can: when r points move, S1' = a R (I + V E V') R' with V = R^-1 U, U the moved
points and the old and new sums, and E diagonal. With the orthonormal W and diagonal f for which
(I + W f W')^2 = I + V E V', R (I + W f W') is the new factor, and M changes by rank 3 r. That is
half of the work of a Cholesky factor and a product with it as long as r is well below d.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import blas

from oodml.fid.arrays import Matrix
from oodml.fid.frechet import FrechetTerms, assemble
from oodml.fid.statistics import Moments
from oodml.fid.trace import EPSILON, root_sum, symmetric_product

# Each step adds rounding of the size of that of the first product; so many are allowed.
MOST_STEPS = 12
# Beyond this part of d, making the product anew costs less than carrying it.
MOST_POINTS = 0.125
# A factor that shrinks more than this in some direction loses digits there.
LEAST_SQUARE = 1e-2


@dataclass(frozen=True)
class Turn:
    """I + W f W' and its inverse I + W g W', W (d, r) orthonormal."""

    basis: Matrix
    factor: Matrix
    inverse: Matrix


@dataclass(frozen=True)
class Move:
    """Points (r, d) that change sides; what each adds to the scatter of train and of test."""

    points: Matrix
    to_train: Matrix
    to_test: Matrix


@dataclass(frozen=True, eq=False)
class Extent:
    """What a distance needs of one side beside M.

    The count, the sum (d,), and of the scatter its trace and a bound on its Frobenius norm.
    """

    count: int
    total: Matrix
    trace: float
    norm: float

    @classmethod
    def of(cls, moments: Moments) -> Extent:
        """That of moments about a fixed centre."""
        scatter = moments.scatter
        norm = float(np.sqrt(np.einsum("ij,ij->", scatter, scatter)))
        return cls(moments.count, moments.total, float(np.trace(scatter)), norm)

    def after(self, points: Matrix, weights: Matrix) -> Extent:
        """With these points (r, d) added, or taken away where their weight is -1."""
        squares = np.einsum("ij,ij->i", points, points)
        return Extent(
            self.count + round(float(weights.sum())),
            self.total + weights @ points,
            self.trace + float(weights @ squares),
            self.norm + float(np.abs(weights) @ squares),
        )

    @property
    def mean(self) -> Matrix:
        return self.total / self.count

    def of_covariance(self) -> tuple[float, float]:
        """The trace of the covariance, and a bound on its Frobenius norm."""
        length = float(self.total @ self.total) / self.count
        return (self.trace - length) / (self.count - 1), (self.norm + length) / (self.count - 1)


@dataclass(frozen=True, eq=False)
class CarriedProduct:
    """M (d, d) = R' S2 R for S1 = R R', R = scale L (I + W1 f1 W1') (I + W2 f2 W2') ...

    Only the lower triangle of `product` counts.
    """

    train: Extent
    test: Extent
    triangle: Matrix
    scale: float
    turns: tuple[Turn, ...]
    product: Matrix

    @classmethod
    def of(cls, train: Moments, test: Moments) -> CarriedProduct | None:
        """From the moments alone; None where the train covariance has no usable factor."""
        found = symmetric_product(train.covariance, test.covariance)
        if found is None:
            return None
        triangle, lower = found
        return cls(Extent.of(train), Extent.of(test), triangle, 1.0, (), np.asfortranarray(lower))

    def after(self, move: Move) -> CarriedProduct | None:
        """After a move; None where it cannot be carried further."""
        train = self.train.after(move.points, move.to_train)
        test = self.test.after(move.points, move.to_test)
        columns, in_train, in_test = self._columns(move, train, test)
        shrink = (self.train.count - 1) / (train.count - 1)
        turn = _turn(self._divided(columns), in_train / (train.count - 1) / shrink)
        if turn is None:
            return None
        left = (self.test.count - 1) / (test.count - 1)
        seen = self._multiplied(columns)
        weighted = seen * (in_test / (test.count - 1))
        basis = turn.basis
        mapped = blas.dsymm(left, self.product, basis, lower=1) + weighted @ (seen.T @ basis)
        inner = turn.factor[:, None] * (basis.T @ mapped) * turn.factor
        half = mapped * turn.factor + basis @ (inner / 2)
        product = blas.dsyr2k(
            shrink,
            np.asfortranarray(np.hstack([weighted / 2, basis])),
            np.asfortranarray(np.hstack([seen, half])),
            beta=shrink * left,
            c=self.product,
            lower=1,
        )
        return replace(
            self, train=train, test=test, scale=self.scale * float(np.sqrt(shrink)),
            turns=(*self.turns, turn), product=product,
        )  # fmt: skip

    def terms(self, tolerance: float) -> FrechetTerms | None:
        """The Frechet terms; None where their bound exceeds `tolerance` of the two traces."""
        (trace_a, norm_a), (trace_b, norm_b) = (
            side.of_covariance() for side in (self.train, self.test)
        )
        limit = tolerance / 2 * (trace_a + trace_b)
        steps = 1 + len(self.turns)
        error = 8 * EPSILON * steps * (trace_a * norm_b + trace_b * norm_a)
        rank = len(self.product)
        if not root_sum(self.product.diagonal(), rank, error).bound <= limit:
            return None
        values = np.asarray(np.linalg.eigvalsh(self.product, UPLO="L"), dtype=np.float64)
        trace = root_sum(values, rank, error)
        if values[0] < -16 * error or not trace.bound <= limit:
            return None
        difference = self.train.mean - self.test.mean
        return assemble(float(difference @ difference), (trace_a, trace_b), trace)

    def _columns(self, move: Move, train: Extent, test: Extent) -> tuple[Matrix, Matrix, Matrix]:
        """U (d, r), and what its columns weigh in (n - 1) S of train and of test."""
        sums = [self.train.total, train.total, self.test.total, test.total]
        ones = [1 / self.train.count, -1 / train.count, 0.0, 0.0]
        others = [0.0, 0.0, 1 / self.test.count, -1 / test.count]
        columns = np.column_stack([move.points.T, *sums])
        return columns, np.append(move.to_train, ones), np.append(move.to_test, others)

    def _divided(self, columns: Matrix) -> Matrix:
        result: Matrix = blas.dtrsm(1 / self.scale, self.triangle, columns, lower=1)
        for turn in self.turns:
            result += turn.basis @ (turn.inverse[:, None] * (turn.basis.T @ result))
        return result

    def _multiplied(self, columns: Matrix) -> Matrix:
        result: Matrix = blas.dtrmm(self.scale, self.triangle, columns, lower=1, trans_a=1)
        for turn in self.turns:
            result += turn.basis @ (turn.factor[:, None] * (turn.basis.T @ result))
        return result


def _turn(columns: Matrix, weights: Matrix) -> Turn | None:
    basis, corner = np.linalg.qr(columns)
    values, vectors = np.linalg.eigh((corner * weights) @ corner.T)
    squares = 1 + values
    if not squares[0] > LEAST_SQUARE:
        return None
    roots = np.sqrt(squares)
    return Turn(basis @ vectors, roots - 1, 1 / roots - 1)
