"""Arrays as the statistics read them: checked, of a real dtype, from NumPy or torch alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError

Real = npt.NDArray[Any]
Matrix = npt.NDArray[np.float64]

ROWS_NAMED = 5
# Sums of squares of larger values leave the range of float64.
LARGEST = 1e75


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


def _from_torch(tensor: Any, what: str) -> Any:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise DataError(f"{what}: dtype {tensor.dtype}; allowed are floating-point and integers.")
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float64)
    return tensor.numpy()


def sample_array(value: Any, what: str) -> Real:
    """`real_array` of shape (n, d), n >= 2, d >= 1, finite and below 1e75, else a DataError."""
    array = real_array(value, what)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"{what}: shape {array.shape}; samples are rows of an (n, d) array.")
    if len(array) < 2:
        raise DataError(f"{what}: {len(array)} sample(s); a covariance needs at least 2.")
    require_finite(array, what)
    if array.dtype == np.float64 and max(array.max(), -array.min()) > LARGEST:
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
