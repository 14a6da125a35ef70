"""Means and covariances in the files of pytorch-fid and clean-fid (`.npz` with mu and sigma)."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oodml.errors import DataError
from oodml.features.array_files import read_npz, text_bytes
from oodml.fid.frechet import (
    FrechetTerms,
    covariance_array,
    frechet_terms_from_moments,
    mean_array,
    real_array,
    sample_array,
)
from oodml.fid.matrix_root import CentredSample, Matrix, Real, eigenvector_factor
from oodml.files import atomic_write


@dataclass(frozen=True, eq=False)
class GaussianStatistics:
    """Mean (d,) and unbiased covariance (d, d) in float64 of one set of features.

    `count` is the number of samples and `network` what made the features; files of other programs
    hold neither (None).
    """

    mean: Matrix
    covariance: Matrix
    count: int | None = None
    network: str | None = None

    @classmethod
    def of(cls, values: Real, network: str | None = None) -> GaussianStatistics:
        """The statistics of the samples `values` (n, d)."""
        checked = sample_array(values, "samples")
        sample = CentredSample(checked, with_covariance=True)
        everything = np.ones(checked.shape[1], dtype=bool)
        mean: Matrix = sample.base + sample.offset
        return cls(mean, sample.covariance(everything), sample.count, network)


def statistics_terms(a: GaussianStatistics, b: GaussianStatistics) -> FrechetTerms:
    """The Frechet terms between two sets of statistics; networks that are known must agree."""
    if a.network and b.network and a.network != b.network:
        raise DataError(
            f"the statistics come from different networks ({a.network}; {b.network});"
            " their distance means nothing."
        )
    return frechet_terms_from_moments(
        a.mean, a.covariance, b.mean, b.covariance, n_a=a.count, n_b=b.count
    )


def write_statistics(path: str | Path, statistics: GaussianStatistics) -> None:
    """Write an `.npz` that pytorch-fid and clean-fid read, with count and network where known."""
    arrays = {"mu": statistics.mean, "sigma": statistics.covariance}
    if statistics.count is not None:
        arrays["count"] = np.array(statistics.count)
    if statistics.network is not None:
        arrays["network"] = np.array(statistics.network)
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_statistics(path: str | Path) -> GaussianStatistics:
    """The statistics in an `.npz` with `mu` and `sigma`, by this or another program.

    Raises DataError for an unreadable file, missing keys, NaN or infinity, a matrix that is not
    symmetric or that has negative eigenvalues beyond the rounding of its dtype.
    """
    try:
        arrays = read_npz(path)
    except FileNotFoundError:
        raise DataError(f"no statistics file at {path}.") from None
    except DataError as error:
        raise DataError(f"{path} is not a readable .npz file ({error}).") from None
    missing = [key for key in ("mu", "sigma") if key not in arrays]
    if missing:
        raise DataError(f"{path} holds no {' and no '.join(missing)}; it is no statistics file.")
    given = real_array(arrays["sigma"], f"{path}: sigma")
    covariance = covariance_array(given, f"{path}: sigma")
    mean = mean_array(arrays["mu"], len(covariance), f"{path}: mu")
    try:
        eigenvector_factor(covariance, len(covariance), float(np.finfo(given.dtype).eps))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    count = _count(arrays["count"], path) if "count" in arrays else None
    network = (
        text_bytes(arrays["network"]).decode(errors="replace") if "network" in arrays else None
    )
    return GaussianStatistics(mean, covariance, count, network)


def _count(array: Real, path: str | Path) -> int:
    if array.ndim or array.dtype.kind not in "iu":
        raise DataError(f"{path}: count is {array.dtype} of shape {array.shape}, not a number.")
    return int(array)


def holds_statistics(path: str | Path) -> bool:
    """True if an `.npz` file holds `mu` or `sigma`; False for any other or unreadable file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not {"mu.npy", "sigma.npy"}.isdisjoint(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
