"""Paths that are chosen by size, each taken on small pools by lowering its threshold."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import OodmlError, UsageError
from oodml.fid import class_moments, frechet, kernel_distance, null
from oodml.fid.class_moments import ClassMoments, rows_of
from oodml.fid.frechet import assemble, frechet_distance, frechet_distance_from_moments
from oodml.fid.matrix_root import (
    EPSILON,
    CentredSample,
    RootTrace,
    cholesky_trace,
    eigenvector_factor,
    gram_trace,
    nuclear_norm,
    root_sum,
)
from oodml.fid.null import split_distance
from oodml.fid.sampling_bias import infinite_sample_distance
from oodml.splits.build.transport_gain import PrincipalSubspace, transport_map


@pytest.mark.parametrize("classes", [(2, 10), (5, 7), (10, 2)])
@pytest.mark.parametrize("gram_pool", [10, 1000])
def test_a_splits_distance_is_that_of_its_points_whatever_its_size(
    classes: tuple[int, int], gram_pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(null, "GRAM_POOL", gram_pool)
    # 16 dimensions: two classes are fewer points than that, five are more.
    features = make_features(classes=12, per_class=7, dimension=16)
    statistics = ClassMoments.from_features(features)
    order = np.random.default_rng(0).permutation(12)
    train, test = order[: classes[0]], order[classes[0] :]
    for pool in ((train, test), (order[:6], order[6:])):
        value = split_distance(statistics, *pool)(train, test)
        sides = [features.values[np.isin(features.labels, side)] for side in (train, test)]
        assert value == pytest.approx(frechet_distance(*sides), rel=1e-9)


def test_samples_that_begin_alike_are_put_in_order_too() -> None:
    random = np.random.default_rng(1)
    for shape in ((30, 4), (4, 30)):
        a = random.standard_normal(shape)
        b = random.standard_normal(shape)
        b[:2] = a[:2]
        b[2, 0] = a[2, 0]
        assert frechet_distance(a, b) == frechet_distance(b, a)


def test_samples_keep_their_order_within_a_class() -> None:
    features = make_features(classes=3, per_class=400, dimension=2)
    order = np.random.default_rng(2).permutation(len(features))
    values, labels = features.values[order], features.labels[order]
    shuffled = type(features)(values, labels, features.class_names, features.source)
    statistics = ClassMoments.from_features(shuffled)
    expected = np.concatenate([values[labels == label] for label in range(3)])
    assert (statistics.values == expected).all()


def test_no_classes_have_no_rows() -> None:
    starts = np.array([0, 2, 5])
    assert rows_of(starts, []).tolist() == []
    assert rows_of(starts, [1, 0, 1]).tolist() == [0, 1, 2, 3, 4, 2, 3, 4]


@pytest.mark.parametrize("with_covariance", [False, True])
def test_a_constant_has_no_variance_at_all(with_covariance: bool) -> None:
    random = np.random.default_rng(3)
    for constant in random.standard_normal(200) * 10.0 ** random.integers(-8, 8, 200):
        for count in (3, 10, 999):
            sample = CentredSample(np.full((count, 1), constant), with_covariance)
            assert sample.variances.tolist() == [0.0]


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_the_bound_of_a_gram_matrix_counts_the_rounding_of_its_factors(scale: float) -> None:
    gram = scale * np.diag([1e-6, 0.25, 4.0])
    error = 4 * EPSILON * (np.sqrt((gram**2).sum()) + np.sqrt(9.0 * 4.0 * scale))
    expected, found = root_sum(gram.diagonal(), 2, error), gram_trace(gram, 2, 9.0)
    assert found.value == pytest.approx(2.5 * np.sqrt(scale), rel=1e-12)
    assert found.bound == pytest.approx(expected.bound, rel=1e-9, abs=0)


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


def test_a_subspace_knows_its_classes() -> None:
    statistics = ClassMoments.from_features(make_features(classes=6, per_class=5, dimension=4))
    inside = PrincipalSubspace.of(statistics, 2).inside
    assert (inside.class_names, inside.level) == (statistics.class_names, "sample")
    assert inside.indices(["class 003"]).tolist() == [3]
    assert inside.counts.tolist() == [5] * 6 and inside.dimension == 2
    leading = np.linalg.eigh(np.cov(statistics.points(range(6)), rowvar=False))[1][:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(inside.means), np.abs(statistics.means @ leading), atol=1e-12)
    assert inside.centre.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_no_rows_have_no_norm(shape: tuple[int, int]) -> None:
    assert nuclear_norm(np.zeros(shape)) == (0.0, 0.0)


def test_coordinates_of_any_scale_count_unless_they_are_constant() -> None:
    random = np.random.default_rng(7)
    scales = np.array([1e-9, 1.0, 1e4])
    a, b = (random.standard_normal((60, 3)) * scales * spread for spread in (1.0, 2.0))
    for kept in ([0], [1], [2], [0, 1], [0, 1, 2]):
        one, other = (np.cov(side[:, kept], rowvar=False).reshape(len(kept), -1) for side in (a, b))
        root = np.sqrt(np.linalg.eigvals(one @ other).real.clip(0)).sum()
        difference = a[:, kept].mean(axis=0) - b[:, kept].mean(axis=0)
        expected = difference @ difference + np.trace(one) + np.trace(other) - 2 * root
        assert frechet_distance(a[:, kept], b[:, kept]) == pytest.approx(expected, rel=1e-6, abs=0)


def test_the_bound_of_a_distance_is_twice_that_of_its_trace_and_rounding() -> None:
    terms = assemble(1.0, (2.0, 3.0), RootTrace(1.0, 1e-3))
    assert (terms.mean, terms.covariance) == (1.0, 3.0)
    assert terms.bound == pytest.approx(2e-3 + 16 * EPSILON * 5, rel=1e-12)
    assert assemble(0.0, (2.0, 2.0), RootTrace(2.0 + 4e-4, 1e-3)).covariance == 0.0
    for trace in (2.0 + 2.1e-3, -1e-9):
        with pytest.raises(OodmlError, match="breaks its limits"):
            assemble(0.0, (2.0, 2.0), RootTrace(trace, 1e-3))


def test_few_rows_against_many_are_measured_by_their_gram_matrix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def listening(gram: np.ndarray, rank: int, trace_product: float) -> RootTrace:
        asked.append((rank, trace_product))
        return gram_trace(gram, rank, trace_product)

    monkeypatch.setattr(frechet, "gram_trace", listening)
    random = np.random.default_rng(8)
    few, many = 3 * random.standard_normal((5, 40)), random.standard_normal((30, 40))
    found = frechet_distance(few, many)
    traces = [side.var(axis=0, ddof=1).sum() for side in (few, many)]
    assert asked == [(4, pytest.approx(traces[0] * traces[1], rel=1e-12))]
    covariances = [np.cov(side, rowvar=False) for side in (few, many)]
    counted = frechet_distance_from_moments(
        few.mean(axis=0), covariances[0], many.mean(axis=0), covariances[1], n_a=5, n_b=30
    )
    assert found == pytest.approx(counted, rel=1e-9)


def test_the_limits_from_a_subspace_are_their_formula() -> None:
    features = make_features(classes=8, per_class=7, dimension=6)
    statistics = ClassMoments.from_features(features)
    pooled = np.cov(statistics.points(range(8)), rowvar=False)
    leading = np.linalg.eigh(pooled)[1][:, ::-1][:, :2]
    train, test = [0, 2, 5], [1, 3, 4, 6, 7]
    points = [statistics.points(side) for side in (train, test)]
    first, second = (np.cov(side, rowvar=False) for side in points)
    inside = [leading.T @ covariance @ leading for covariance in (first, second)]
    left = [np.trace(c) - np.trace(p) for c, p in zip((first, second), inside, strict=True)]
    root = np.sqrt(np.linalg.eigvals(inside[0] @ inside[1]).real).sum()
    difference = points[0].mean(axis=0) - points[1].mean(axis=0)
    centre = difference @ difference + np.trace(first) + np.trace(second) - 2 * root
    slack = 2 * np.sqrt(left[0] * left[1])
    found = PrincipalSubspace.of(statistics, 2).interval(train, test)
    assert found.lower == pytest.approx(centre - slack, rel=1e-6)
    assert found.upper == pytest.approx(centre + slack, rel=1e-6)


def test_a_transport_map_between_singular_covariances_is_finite() -> None:
    a, b = np.diag([1.0, 4.0, 0.0]), np.diag([9.0, 1.0, 0.0])
    found = transport_map(a, b)
    np.testing.assert_allclose(found[:2, :2], np.diag([3.0, 0.5]), atol=1e-6)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found @ a @ found, b, atol=1e-4)


def test_no_class_names_have_no_indices_of_any_other_kind() -> None:
    statistics = ClassMoments.from_features(make_features(classes=4, per_class=3, dimension=2))
    assert statistics.size([]) == len(statistics.points([])) == 0
    assert statistics.indices([]).dtype == statistics.indices(["class 002"]).dtype == np.int64


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


def test_inner_products_are_cached_up_to_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = ClassMoments.from_features(make_features(classes=6, per_class=5, dimension=4))
    monkeypatch.setattr(class_moments, "GRAM_POINTS", 30)
    assert class_moments.PooledGram.of(statistics).products.shape == (30, 30)
    monkeypatch.setattr(class_moments, "GRAM_POINTS", 29)
    with pytest.raises(UsageError, match="at most 29"):
        class_moments.PooledGram.of(statistics)


def test_two_samples_per_dimension_are_enough_to_extrapolate_from() -> None:
    train, test = np.array([0, 1]), np.array([2, 3])
    statistics = ClassMoments.from_features(make_features(classes=4, per_class=4, dimension=4))
    assert np.isfinite(infinite_sample_distance(statistics, train, test))
    statistics = ClassMoments.from_features(make_features(classes=4, per_class=4, dimension=5))
    with pytest.raises(UsageError, match="8 samples on one side"):
        infinite_sample_distance(statistics, train, test)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_factor_keeps_every_direction_at_any_scale(scale: float) -> None:
    covariance = scale * np.diag([1.0, 0.5, 0.25])
    factor = eigenvector_factor(covariance, 3)
    assert len(factor) == 3
    np.testing.assert_allclose(factor.T @ factor, covariance, rtol=1e-12, atol=1e-12 * scale)


def test_a_class_larger_than_a_block_is_a_block_of_its_own() -> None:
    starts = np.array([0, 3, kernel_distance.ROWS + 9, kernel_distance.ROWS + 12])
    spans = kernel_distance._spans(starts)
    assert [next(spans) for _ in range(3)] == [(0, 1), (1, 2), (2, 3)]
    assert next(spans, None) is None
