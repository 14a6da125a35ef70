"""Tr((S1 S2)^(1/2)) with a numerical error bound; never a general matrix square root.

With factors S1 = F1' F1 and S2 = F2' F2 the trace is the nuclear norm of F1 F2' (arXiv 2009.14075):
the sum of its singular values, which is also the sum of the roots of the eigenvalues of
(F1 F2')(F1 F2')'. Singular values keep 13 digits but cost more; roots of eigenvalues are quick but
lose half of the digits of small ones, so their sum comes with a bound and the caller falls back to
singular values where the bound is too wide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from oodml.errors import DataError
from oodml.fid.arrays import Matrix

EPSILON = float(np.finfo(np.float64).eps)
# A Cholesky factor whose diagonal spans more than this has lost its small directions to rounding.
CHOLESKY_SPAN = 1e-7


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
    error = 4 * EPSILON * (float(np.linalg.norm(gram)) + np.sqrt(trace_product * largest))
    return root_sum(values, rank, error)


def cholesky_trace(a: Matrix, b: Matrix) -> RootTrace | None:
    """From two covariances by L' b L with a = L L', or None where `a` has no Cholesky factor.

    Raises DataError when `b` has an eigenvalue that is negative beyond rounding.
    """
    try:
        factor = np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return None
    diagonal = factor.diagonal()
    if diagonal.min() <= CHOLESKY_SPAN * diagonal.max():
        return None
    product = factor.T @ b @ factor
    values = np.asarray(np.linalg.eigvalsh(product), dtype=np.float64)
    norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    scale = float(np.trace(a)) * norm_b + float(np.trace(b)) * norm_a
    error = 4 * EPSILON * (float(np.linalg.norm(product)) + scale)
    if values[0] < -16 * error:
        raise DataError("a covariance has negative eigenvalues beyond rounding; it is none.")
    return root_sum(values, len(a), error)


def eigenvector_factor(covariance: Matrix, rank: int) -> Matrix:
    """F with F' F = covariance, of at most `rank` rows; directions lost to rounding are left out.

    Raises DataError when an eigenvalue is negative beyond rounding.
    """
    values, vectors = np.linalg.eigh(covariance)
    slack = len(covariance) * EPSILON * max(float(values[-1]), 0.0)
    if values[0] < -16 * slack:
        raise DataError(
            f"a covariance is not positive semidefinite (smallest eigenvalue {values[0]:.3g},"
            f" largest {values[-1]:.3g})."
        )
    keep = values > slack
    keep[: max(len(values) - rank, 0)] = False
    factor: Matrix = (vectors[:, keep] * np.sqrt(values[keep])).T
    return factor


def factored_trace(a: Matrix, b: Matrix, rank_a: int, rank_b: int) -> RootTrace:
    """From two covariances of any conditioning, by eigenvector factors and singular values."""
    return nuclear_norm(eigenvector_factor(a, rank_a) @ eigenvector_factor(b, rank_b).T)
