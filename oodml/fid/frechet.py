"""The exact Frechet distance between Gaussians fitted to two sets of features (FID).

|m1 - m2|^2 + tr S1 + tr S2 - 2 Tr((S1 S2)^(1/2)) with unbiased covariances (arXiv 1706.08500), in
float64 whatever the input. `_sample_trace` chooses the path by the shape: singular values of the
centred cross product of two sides of at most 1,000 samples and of similar size, eigenvalues of its
Gram matrix for others of fewer samples than dimensions, Cholesky and eigenvalues above; singular
values of factors where the error bound of these is wider than `TOLERANCE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from oodml.errors import DataError, OodmlError
from oodml.features.features import Features, require_one_network
from oodml.fid.matrix_root import (
    EPSILON,
    CentredSample,
    Matrix,
    Real,
    RootTrace,
    cholesky_trace,
    factored_trace,
    gram_trace,
    nuclear_norm,
)

# The largest error allowed, as a part of the two traces, before the slower path is taken.
TOLERANCE = 1e-9
# Up to here singular values cost less than a tenth of a second more than eigenvalues.
SINGULAR_VALUE_LIMIT = 1000
# Variances below this part of the largest one are rounding noise of a constant coordinate and taken
# as 0: they can add at most d * 1e-14 of the trace term.
CONSTANT = 1e-28
# Beyond this, products of two covariances leave the range of float64.
LARGEST_TRACE = 1e150
ROWS_NAMED = 5
# Sums of squares of larger values leave the range of float64.
LARGEST_VALUE = 1e75


@dataclass(frozen=True)
class FrechetTerms:
    """The two terms of a Frechet distance, in squared feature units, and its rounding bound.

    `bound` limits the numerical error of `covariance` (a standard perturbation estimate with a
    fixed constant, usually far too wide). It says nothing about sampling error.
    """

    mean: float
    covariance: float
    bound: float

    @property
    def value(self) -> float:
        """The distance: `mean + covariance`."""
        return self.mean + self.covariance


def frechet_distance(a: Any, b: Any, *, tolerance: float = TOLERANCE) -> float:
    """The Frechet distance between the samples `a` (n1, d) and `b` (n2, d).

    Both are arrays, tensors or `Features`. See `frechet_terms`, of which this is `.value`. Raises
    DataError, besides, for features of two different networks.
    """
    if isinstance(a, Features) and isinstance(b, Features):
        require_one_network(a, b)
    a, b = (side.values if isinstance(side, Features) else side for side in (a, b))
    return frechet_terms(a, b, tolerance=tolerance).value


def frechet_terms(a: Any, b: Any, *, tolerance: float = TOLERANCE) -> FrechetTerms:
    """The mean and covariance terms of the distance between samples `a` (n1, d) and `b` (n2, d).

    NumPy arrays or torch tensors on any device, of any real dtype; computed in float64 in host
    memory, large inputs in blocks. Swapping `a` and `b` gives the same bits. The numerical error is
    below 1e-9 of tr S1 + tr S2 for every shape and spectrum in the tests; where the bound of the
    quick path exceeds `tolerance` of that sum, a path that takes three times as long is used (a
    search may loosen it: errors stay far below their bound). Raises DataError for
    fewer than 2 samples a side, NaN or infinity (rows named), different or missing dimensions.
    """
    left, right = sample_array(a, "first sample"), sample_array(b, "second sample")
    if left.shape[1] != right.shape[1]:
        raise DataError(
            f"the samples have {left.shape[1]} and {right.shape[1]} dimensions; they must agree."
        )
    if not _in_order(left, right):
        left, right = right, left
    many = len(left) > left.shape[1]
    first, second = CentredSample(left, many), CentredSample(right, many)
    difference = (first.base - second.base) + (first.offset - second.offset)
    traces = (float(first.variances.sum()), float(second.variances.sum()))
    _require_moderate(difference, traces)
    keep = _varying(first.variances) & _varying(second.variances)
    trace = _sample_trace(first, second, keep, traces, tolerance)
    return assemble(float(difference @ difference), traces, trace)


def frechet_distance_from_moments(
    mean_a: Any,
    cov_a: Any,
    mean_b: Any,
    cov_b: Any,
    *,
    n_a: int | None = None,
    n_b: int | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """The Frechet distance between two Gaussians given by mean (d,) and covariance (d, d).

    See `frechet_terms_from_moments`, of which this is `.value`.
    """
    return frechet_terms_from_moments(
        mean_a, cov_a, mean_b, cov_b, n_a=n_a, n_b=n_b, tolerance=tolerance
    ).value


def frechet_terms_from_moments(
    mean_a: Any,
    cov_a: Any,
    mean_b: Any,
    cov_b: Any,
    *,
    n_a: int | None = None,
    n_b: int | None = None,
    tolerance: float = TOLERANCE,
) -> FrechetTerms:
    """The terms of the distance between two Gaussians given by mean (d,) and covariance (d, d).

    `n_a` and `n_b`, where known, are the numbers of samples behind the covariances: with n <= d
    they give their rank. `tolerance` as in `frechet_terms`. Raises DataError for NaN or infinity in
    either triangle, matrices that are not symmetric or have negative eigenvalues beyond rounding,
    and dimensions that do not agree.
    """
    given = real_array(cov_a, "first covariance"), real_array(cov_b, "second covariance")
    a, b = (
        covariance_array(given[0], "first covariance"),
        covariance_array(given[1], "second covariance"),
    )
    if len(a) != len(b):
        raise DataError(f"the covariances have {len(a)} and {len(b)} dimensions; they must agree.")
    difference = mean_array(mean_a, len(a), "first mean")
    difference -= mean_array(mean_b, len(a), "second mean")
    epsilon = max(float(np.finfo(array.dtype).eps) for array in given)
    return terms_of_covariances(
        difference, a, b, counts=(n_a, n_b), tolerance=tolerance, epsilon=epsilon
    )


def terms_of_covariances(
    difference: Matrix,
    a: Matrix,
    b: Matrix,
    *,
    counts: tuple[int | None, int | None] = (None, None),
    tolerance: float = TOLERANCE,
    epsilon: float = EPSILON,
) -> FrechetTerms:
    """The terms from a difference of means (d,) and two exactly symmetric float64 covariances.

    For callers that made the covariances themselves: symmetry, shapes and finite values are not
    checked. `epsilon` is the rounding of the given numbers, for the test of semidefiniteness.
    """
    traces = (float(np.trace(a)), float(np.trace(b)))
    _require_moderate(difference, traces)
    keep = _varying(a.diagonal()) & _varying(b.diagonal())
    if not keep.all():
        a, b = a[np.ix_(keep, keep)], b[np.ix_(keep, keep)]
    ranks = (_rank(counts[0], len(a)), _rank(counts[1], len(b)))
    trace: RootTrace | None = None
    if len(a) and not _in_order(a, b):
        a, b, ranks = b, a, (ranks[1], ranks[0])
    if len(a) == 0:
        trace = RootTrace(0.0, 0.0)
    elif min(ranks) == len(a):
        trace = cholesky_trace(a, b, tolerance / 2 * sum(traces))
    return assemble(
        float(difference @ difference), traces, trace or factored_trace(a, b, ranks, epsilon)
    )


def assemble(mean: float, traces: tuple[float, float], trace: RootTrace) -> FrechetTerms:
    """The terms from |m1 - m2|^2, the two traces and the trace of the root, held to its limits.

    0 <= Tr((S1 S2)^(1/2)) <= (tr S1 tr S2)^(1/2): raises OodmlError for a result outside of them by
    more than its bound; within the bound, a negative distance becomes 0.
    """
    total = traces[0] + traces[1]
    bound = 2 * trace.bound + 16 * EPSILON * total
    covariance = total - 2 * trace.value
    limit = float(np.sqrt(traces[0]) * np.sqrt(traces[1]))
    if not 0 <= trace.value <= limit + bound or covariance < -bound:
        raise OodmlError(
            f"the trace term {trace.value:.6g} breaks its limits [0, {limit:.6g}];"
            " the linear algebra library returned a wrong result."
        )
    return FrechetTerms(mean, max(covariance, 0.0), bound)


def real_array(value: Any, what: str) -> Real:
    """A NumPy array of a real dtype, in host memory, sharing the memory of `value` if it can.

    Takes NumPy arrays, nested sequences and torch tensors on any device. float32 and float64 stay
    as they are (they are raised to float64 block by block where they are used); float16, bfloat16
    and integers become float64 here, which is exact. Raises DataError for booleans, complex
    numbers, objects and ragged sequences.
    """
    if hasattr(value, "detach"):
        value = _from_torch(value, what)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{what}: not an array of numbers ({error}).") from None
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "iu" or array.dtype == np.float16:
        return array.astype(np.float64)
    raise DataError(f"{what}: dtype {array.dtype}; allowed are floating-point and integer numbers.")


def sample_array(value: Any, what: str) -> Real:
    """`real_array` of shape (n, d), n >= 2, d >= 1, finite and below 1e75, else a DataError."""
    array = real_array(value, what)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"{what}: shape {array.shape}; samples are rows of an (n, d) array.")
    if len(array) < 2:
        raise DataError(f"{what}: {len(array)} sample(s); a covariance needs at least 2.")
    require_finite(array, what)
    if array.dtype == np.float64 and max(array.max(), -array.min()) > LARGEST_VALUE:
        raise DataError(f"{what}: values up to {np.abs(array).max():.3g} are too large to square.")
    return array


def require_finite(array: Real, what: str) -> None:
    """Raise a DataError that names the rows of `array` which hold NaN or infinity.

    `array` is (n,) or (n, d).
    """
    # A finite sum proves finite terms, and costs no array of flags.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if len(rows):
        named = ", ".join(map(str, rows[:ROWS_NAMED]))
        more = f" and {len(rows) - ROWS_NAMED} more" if len(rows) > ROWS_NAMED else ""
        raise DataError(f"{what}: NaN or infinity in row(s) {named}{more} (counted from 0).")


def covariance_array(value: Any, what: str) -> Matrix:
    """A finite, symmetric (d, d) float64 matrix with no negative diagonal, else a DataError.

    Asymmetry up to 64 roundings of the given dtype at the matrix's largest entry is averaged away.
    """
    given = real_array(value, what)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or given.shape[0] == 0:
        raise DataError(f"{what}: shape {given.shape}; a covariance is a square matrix.")
    require_finite(given, what)
    matrix = given.astype(np.float64)
    largest = float(np.abs(matrix).max())
    slack = 64 * float(np.finfo(given.dtype).eps) * largest
    asymmetry = float(np.abs(matrix - matrix.T).max())
    if asymmetry > slack:
        raise DataError(
            f"{what}: not symmetric (entries differ from their mirror by {asymmetry:.3g})."
        )
    if matrix.diagonal().min() < -slack:
        raise DataError(f"{what}: not a covariance (variance {matrix.diagonal().min():.3g} < 0).")
    return (matrix + matrix.T) / 2


def mean_array(value: Any, dimension: int, what: str) -> Matrix:
    """A finite float64 vector of length `dimension`, else a DataError."""
    vector = real_array(value, what).astype(np.float64)
    if vector.shape != (dimension,):
        raise DataError(f"{what}: shape {vector.shape}; the covariance asks for ({dimension},).")
    require_finite(vector, what)
    return vector


def _from_torch(tensor: Any, what: str) -> Any:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise DataError(f"{what}: dtype {tensor.dtype}; allowed are floating-point and integers.")
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float64)
    return tensor.numpy()


def _sample_trace(
    a: CentredSample, b: CentredSample, keep: Any, traces: tuple[float, float], tolerance: float
) -> RootTrace:
    dimension, limit = int(np.count_nonzero(keep)), tolerance / 2 * sum(traces)
    if dimension == 0:
        return RootTrace(0.0, 0.0)
    if a.count > dimension:
        trace = cholesky_trace(a.covariance(keep), b.covariance(keep), limit)
        return trace or nuclear_norm(a.triangle(keep) @ b.triangle(keep).T)
    factor = a.factor(keep)
    if b.count > 3 * a.count or a.count > SINGULAR_VALUE_LIMIT:
        gram = np.zeros((a.count, a.count))
        for block in b.blocks(keep):
            cross = factor @ block.T
            gram += cross @ cross.T
        trace = gram_trace(gram / (b.count - 1), a.count - 1, traces[0] * traces[1])
        if trace.bound <= limit:
            return trace
    other = b.factor(keep) if b.count <= dimension else b.triangle(keep)
    return nuclear_norm(factor @ other.T)


def _require_moderate(difference: Matrix, traces: tuple[float, float]) -> None:
    largest = max(float(np.abs(difference).max()), *traces)
    if not largest <= LARGEST_TRACE:
        raise DataError(f"the features are too large ({largest:.3g}): their squares overflow.")


def _varying(variances: Matrix) -> Any:
    return variances > CONSTANT * variances.max(initial=0.0)


def _rank(count: int | None, dimension: int) -> int:
    return dimension if count is None else min(count - 1, dimension)


def _in_order(a: Real, b: Real) -> bool:
    # One order of the two sides makes the rounding, and so the result, symmetric.
    if len(a) != len(b):
        return len(a) < len(b)
    row = 0
    if (a[0] == b[0]).all():
        row = int(np.argmax((a != b).any(axis=1)))
    row_a, row_b = a[row], b[row]
    column = int(np.argmax(row_a != row_b))
    return bool(row_a[column] < row_b[column])
