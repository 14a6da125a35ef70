"""Tr((S1 S2)^(1/2)) with a numerical error bound; never a general matrix square root.

With factors S1 = F1' F1 and S2 = F2' F2 the trace is the nuclear norm of F1 F2' (arXiv 2009.14075):
the sum of its singular values, which is also the sum of the roots of the eigenvalues of
(F1 F2')(F1 F2')'. Singular values keep 13 digits but cost more; roots of eigenvalues are quick but
lose half of the digits of small ones, so their sum comes with a bound and the caller falls back to
singular values where the bound is too wide. Matrices are float64: covariances (d, d),
factors (k, d), cross products of factors (k, l).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from oodml.errors import DataError

Real = npt.NDArray[Any]
Matrix = npt.NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
# A Cholesky factor whose diagonal spans more than this has lost its small directions to rounding.
CHOLESKY_SPAN = 1e-7
# SciPy brings threads of its own, which get in the way of NumPy's for a few milliseconds: below
# this size that costs more than it gains.
SMALL = 512
# Rows that are raised to float64 at a time.
BLOCK_ROWS = 4096


class RootTrace(NamedTuple):
    """Tr((S1 S2)^(1/2)) and a bound on its rounding error, both in squared feature units."""

    value: float
    bound: float


def nuclear_norm(cross: Matrix) -> RootTrace:
    """The sum of the singular values of F1 F2'; error bound 8 eps k^1.5 sigma_max."""
    if min(cross.shape) == 0:
        return RootTrace(0.0, 0.0)
    values = np.linalg.svd(cross, compute_uv=False)
    return RootTrace(float(values.sum()), 8 * EPSILON * len(values) ** 1.5 * float(values[0]))


def root_sum(eigenvalues: Matrix, rank: int, error: float) -> RootTrace:
    """The sum of the roots of the `rank` largest eigenvalues, for a matrix known up to `error`.

    `error` is a Frobenius norm, so by Hoffman and Wielandt the squared errors of the eigenvalues
    add up to at most its square. The bound takes the better of two estimates for each of them: the
    k smallest may move by k^(3/4) error^(1/2) together, the others by the first-order term.
    """
    top = np.sort(eigenvalues)[::-1][:rank]
    roots = np.sqrt(np.clip(top, 0.0, None))
    slopes = 1.0 / (roots + np.sqrt(np.clip(top - error, 0.0, None)) + np.sqrt(EPSILON * error))
    first_order = error * np.sqrt(np.concatenate([[0.0], np.cumsum(slopes**2)]))
    smallest = np.arange(len(top), -1, -1.0) ** 0.75 * np.sqrt(error)
    return RootTrace(float(roots.sum()), float((first_order + smallest).min()))


def gram_trace(gram: Matrix, rank: int, trace_product: float) -> RootTrace:
    """From gram = (F1 F2')(F1 F2')' of which at most `rank` eigenvalues differ from 0.

    `trace_product` is tr S1 * tr S2, which sets the size of the rounding errors in F1 F2'.
    """
    values = np.asarray(np.linalg.eigvalsh(gram), dtype=np.float64)
    largest = max(float(values[-1]), 0.0)
    error = 4 * EPSILON * (_norm(gram) + np.sqrt(trace_product * largest))
    return root_sum(values, rank, error)


def cholesky_trace(a: Matrix, b: Matrix, limit: float) -> RootTrace | None:
    """From two covariances by a = L L', or None where either has no usable Cholesky factor.

    Eigenvalues of L' b L if their bound keeps within `limit`, else singular values of La' Lb, which
    take three times as long. Raises DataError when `b` has an eigenvalue that is negative beyond
    rounding.
    """
    found = symmetric_product(a, b)
    if found is None:
        return None
    factor, product = found
    norms = float(np.trace(a)) * _norm(b)
    error = 8 * EPSILON * (norms + float(np.trace(b)) * _norm(a))
    # A cheap check first: where the bound from the diagonal is too wide, so is that from the
    # eigenvalues, which majorise it.
    if root_sum(product.diagonal(), len(a), error).bound <= limit:
        # Column by column and the lower triangle: LAPACK reduces the other one a third slower.
        values = np.asarray(np.linalg.eigvalsh(product, UPLO="L"), dtype=np.float64)
        if values[0] < -16 * error:
            raise DataError("a covariance has negative eigenvalues beyond rounding; it is none.")
        trace = root_sum(values, len(a), error)
        if trace.bound <= limit:
            return trace
    other = _cholesky(b)
    return None if other is None else nuclear_norm(factor.T @ other)


def symmetric_product(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix] | None:
    """L with a = L L', and L' b L of which only the lower triangle counts; None without L."""
    factor = _cholesky(a)
    if factor is None:
        return None
    if len(a) < SMALL:
        return factor, factor.T @ b @ factor
    # A quarter of the cost of two matrix products.
    product, _ = lapack.dsygst(b.T, factor, itype=2, lower=1)
    return factor, product


def _cholesky(covariance: Matrix) -> Matrix | None:
    if len(covariance) < SMALL:
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return None
    else:
        factor, failure = lapack.dpotrf(covariance.T, lower=1, clean=1)
        if failure:
            return None
    diagonal = factor.diagonal()
    if diagonal.min() <= CHOLESKY_SPAN * diagonal.max():
        return None
    return np.asarray(factor, dtype=np.float64)


def _norm(matrix: Matrix) -> float:
    return float(np.sqrt(np.einsum("ij,ij->", matrix, matrix)))


def eigenvector_factor(covariance: Matrix, rank: int, epsilon: float = EPSILON) -> Matrix:
    """F with F' F = covariance, of at most `rank` rows; directions lost to rounding are left out.

    `epsilon` is the relative rounding of the numbers as they were given. Raises DataError when an
    eigenvalue is negative beyond that.
    """
    values, vectors = np.linalg.eigh(covariance)
    largest, smallest = max(float(values[-1]), 0.0), float(values[0])
    if smallest < -16 * len(covariance) * epsilon * largest:
        raise DataError(
            f"a covariance is not positive semidefinite (smallest eigenvalue {smallest:.3g},"
            f" largest {largest:.3g})."
        )
    # Rounding spreads null eigenvalues evenly about 0: what it made negative tells its size.
    keep = values > max(4 * EPSILON * largest, -2 * smallest)
    keep[: max(len(values) - rank, 0)] = False
    factor: Matrix = (vectors[:, keep] * np.sqrt(values[keep])).T
    return factor


def factored_trace(
    a: Matrix, b: Matrix, ranks: tuple[int, int], epsilon: float = EPSILON
) -> RootTrace:
    """From two covariances of any conditioning, by eigenvector factors and singular values."""
    left = eigenvector_factor(a, ranks[0], epsilon)
    return nuclear_norm(left @ eigenvector_factor(b, ranks[1], epsilon).T)


class CentredSample:
    """A sample (n, d) with its mean, in two parts, and the variances of its coordinates.

    `base + offset` is the mean; kept apart, a mean far larger than the spread costs no digits.
    With `with_covariance` the covariance is summed in the same pass as the rest.
    """

    def __init__(self, values: Real, with_covariance: bool = False) -> None:
        self.values = values
        self.count = len(values)
        self.base: Matrix = values.mean(axis=0, dtype=np.float64)
        self.offset: Matrix = np.zeros_like(self.base)
        self._covariance: Matrix | None = None
        total, squares = np.zeros_like(self.base), np.zeros_like(self.base)
        scatter = np.zeros((len(self.base),) * 2) if with_covariance else None
        for block in self.blocks():
            total += block.sum(axis=0)
            if scatter is None:
                squares += np.einsum("ij,ij->j", block, block)
            else:
                scatter += block.T @ block
        self.offset = total / self.count
        if scatter is not None:
            # The root of the count on both factors keeps the product symmetric to the last bit.
            shift = self.offset * np.sqrt(self.count)
            scatter -= np.outer(shift, shift)
            squares = scatter.diagonal().copy()
            scatter /= self.count - 1
            self._covariance = scatter
        else:
            squares -= self.count * self.offset**2
        # Less than this is what rounding leaves of a constant.
        residue = self.count * (4 * EPSILON * self.base) ** 2
        self.variances: Matrix = np.where(squares <= residue, 0.0, squares / (self.count - 1))

    def blocks(self, keep: Any = slice(None)) -> Iterator[Matrix]:
        """The centred rows in float64, a few thousand at a time, of the coordinates `keep`."""
        base, offset = self.base[keep], self.offset[keep]
        moved = bool(offset.any())
        for start in range(0, self.count, BLOCK_ROWS):
            block = self.values[start : start + BLOCK_ROWS]
            centred: Matrix = np.subtract(block[:, keep], base, dtype=np.float64)
            if moved:
                centred -= offset
            yield centred

    def factor(self, keep: Any) -> Matrix:
        """F (n, kept) with F' F = the unbiased covariance."""
        rows: Matrix = np.concatenate(list(self.blocks(keep)))
        rows /= np.sqrt(self.count - 1)
        return rows

    def covariance(self, keep: Any) -> Matrix:
        """The unbiased covariance (kept, kept), exactly symmetric."""
        if self._covariance is not None:
            return self._covariance if np.all(keep) else self._covariance[np.ix_(keep, keep)]
        scatter = np.zeros((int(np.count_nonzero(keep)),) * 2)
        for block in self.blocks(keep):
            scatter += block.T @ block
        scatter /= self.count - 1
        return scatter

    def triangle(self, keep: Any) -> Matrix:
        """R, upper triangular, with R' R = the covariance: by QR, which squares no condition."""
        rows: Matrix = np.zeros((0, int(np.count_nonzero(keep))))
        for block in self.blocks(keep):
            rows = np.asarray(np.linalg.qr(np.concatenate([rows, block]), mode="r"))
        rows /= np.sqrt(self.count - 1)
        return rows
