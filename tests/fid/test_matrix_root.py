"""Roots of products, their bounds and factors against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from fid.conftest import D, sample, traces

from oodml.fid.matrix_root import (
    EPSILON,
    CentredSample,
    cholesky_trace,
    eigenvector_factor,
    factored_trace,
    gram_trace,
    nuclear_norm,
    root_sum,
)
from oodml.seeding import generator


@pytest.mark.parametrize("n", [D - 1, D, D + 1, D + 40])
def test_all_branches_agree_around_their_thresholds(n):
    first, second = sample(n), sample(n + 3, seed=1)
    a, b = CentredSample(first), CentredSample(second)
    keep = np.ones(D, dtype=bool)
    cov_a, cov_b = a.covariance(keep), b.covariance(keep)
    cross = a.factor(keep) @ b.factor(keep).T
    total = traces(first, second)
    rank = min(n - 1, D)
    values = [
        nuclear_norm(cross).value,
        gram_trace(cross @ cross.T, rank, total**2).value,
        nuclear_norm(a.triangle(keep) @ b.triangle(keep).T).value,
        factored_trace(cov_a, cov_b, (rank, min(n + 2, D))).value,
        *(t.value for t in [cholesky_trace(cov_a, cov_b, np.inf)] if t is not None),
        *(t.value for t in [cholesky_trace(cov_a, cov_b, 0.0)] if t is not None),
    ]
    assert max(values) - min(values) < 1e-8 * total
    assert len(values) == (4 if n <= D else 6)


@pytest.mark.parametrize("error", [0.0, 1e-9, 1e-3, 0.5])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_bound_of_a_sum_of_roots_is_the_better_of_both_estimates(
    rank: int, error: float
) -> None:
    eigenvalues = np.array([0.3, -1e-12, 4.0, 1e-5, 1.0])
    top = sorted(eigenvalues, reverse=True)[:rank]
    roots = [np.sqrt(max(value, 0.0)) for value in top]
    bounds = []
    for first in range(rank + 1):
        squares = 0.0
        for value, root in zip(top[:first], roots, strict=False):
            lower = np.sqrt(max(value - error, 0.0))
            squares += (error / max(root + lower + np.sqrt(EPSILON * error), 1e-300)) ** 2
        bounds.append(np.sqrt(squares) + (rank - first) ** 0.75 * np.sqrt(error))
    if error == 0.0:
        eigenvalues = np.abs(eigenvalues)
    found = root_sum(eigenvalues, rank, error)
    assert found.value == pytest.approx(sum(roots), rel=1e-5)
    assert found.bound == pytest.approx(min(bounds), rel=1e-12, abs=0)


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_the_bound_of_a_gram_matrix_counts_the_rounding_of_its_factors(scale: float) -> None:
    gram = scale * np.diag([1e-6, 0.25, 4.0])
    error = 4 * EPSILON * (np.sqrt((gram**2).sum()) + np.sqrt(9.0 * 4.0 * scale))
    expected, found = root_sum(gram.diagonal(), 2, error), gram_trace(gram, 2, 9.0)
    assert found.value == pytest.approx(2.5 * np.sqrt(scale), rel=1e-12)
    assert found.bound == pytest.approx(expected.bound, rel=1e-9, abs=0)


def test_the_bound_of_a_cholesky_factor_counts_both_norms() -> None:
    random = np.random.default_rng(10)
    a, b = (np.cov(random.standard_normal((30, 4)) * scale, rowvar=False) for scale in (1.0, 3.0))
    norms = [np.sqrt((side**2).sum()) for side in (a, b)]
    error = 8 * EPSILON * (np.trace(a) * norms[1] + np.trace(b) * norms[0])
    expected = root_sum(np.sort(np.linalg.eigvals(a @ b).real), 4, error)
    found = cholesky_trace(a, b, np.inf)
    assert found is not None
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert found.bound == pytest.approx(expected.bound, rel=1e-6, abs=0)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_no_rows_have_no_norm(shape: tuple[int, int]) -> None:
    assert nuclear_norm(np.zeros(shape)) == (0.0, 0.0)


def rotated(*spectra):
    d = len(spectra[0])
    basis, _ = np.linalg.qr(generator(0, "rotated", d).standard_normal((d, d)))
    products = ((basis * spectrum) @ basis.T for spectrum in spectra)
    return [(p + p.T) / 2 for p in products]


def test_a_factor_has_no_more_rows_than_the_covariance_has_rank():
    spectrum = np.array([4.0, 3.0, 1e-13, 2.0, 1e-13, 1e-18])
    covariance = rotated(spectrum)[0]
    assert eigenvector_factor(covariance, 3).shape == (3, 6)
    assert eigenvector_factor(covariance, 6).shape == (5, 6)
    factor = eigenvector_factor(covariance, 6)
    np.testing.assert_allclose(factor.T @ factor, covariance, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_factor_keeps_every_direction_at_any_scale(scale: float) -> None:
    covariance = scale * np.diag([1.0, 0.5, 0.25])
    factor = eigenvector_factor(covariance, 3)
    assert len(factor) == 3
    np.testing.assert_allclose(factor.T @ factor, covariance, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("with_covariance", [False, True])
def test_a_constant_has_no_variance_at_all(with_covariance: bool) -> None:
    random = np.random.default_rng(3)
    for constant in random.standard_normal(200) * 10.0 ** random.integers(-8, 8, 200):
        for count in (3, 10, 999):
            sample = CentredSample(np.full((count, 1), constant), with_covariance)
            assert sample.variances.tolist() == [0.0]


@pytest.mark.parametrize("with_covariance", [False, True])
def test_a_small_spread_about_a_large_mean_is_no_constant(with_covariance: bool) -> None:
    values = 1.0 + 1e-8 * np.random.default_rng(4).standard_normal((40, 5))
    sample = CentredSample(values, with_covariance)
    expected = np.cov(values - values.mean(axis=0), rowvar=False)
    np.testing.assert_allclose(sample.variances, expected.diagonal(), rtol=1e-9)
    keep = np.array([True, False, True, True, False])
    for kept in (keep, np.ones(5, dtype=bool)):
        part = expected[np.ix_(kept, kept)]
        np.testing.assert_allclose(sample.covariance(kept), part, atol=1e-25, rtol=1e-9)
