"""What stands beside a distance in a report: biases and kernels, by their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_features

from oodml.fid import shift
from oodml.fid.class_moments import ClassMoments
from oodml.fid.kernel_distance import kid_sums, mmd_sums
from oodml.fid.null import bootstrap_interval, class_null
from oodml.fid.sampling_bias import expected_bias
from oodml.fid.shift import measure_shift, with_null
from oodml.splits.split import Split


def test_the_expected_bias_is_its_formula_for_sides_of_any_size() -> None:
    values = [0.5, 2.0, 3.0, 0.0]
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((4, 4)))[0]
    pairs = sum(x * y * (1 + (x == y)) / (x + y) for x in values[:3] for y in values[:3])
    for n_a, n_b in ((50, 50), (40, 160), (160, 40)):
        expected = (1 / n_a + 1 / n_b) * (sum(values) + pairs / 2)
        covariance = turn @ np.diag(values) @ turn.T
        assert expected_bias(covariance, n_a, n_b) == pytest.approx(expected, rel=1e-9)


def test_kid_is_measured_up_to_its_limit_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    features = make_features(classes=6, per_class=5, dimension=4)
    halves = Split(features.class_names[:3], features.class_names[3:])
    for limit, measured in ((30 * 30 * 4, True), (30 * 30 * 4 - 1, False)):
        monkeypatch.setattr(shift, "KERNEL_WORK", limit)
        assert (measure_shift(features, halves, null=0).kid is not None) == measured


def test_a_report_holds_the_kernel_distances_of_its_names() -> None:
    features = make_features(classes=8, per_class=5, dimension=4)
    halves = Split(features.class_names[:3], features.class_names[3:])
    found = measure_shift(features, halves, null=3, kid=True, mmd=True, bandwidth=2.0, seed=6)
    statistics, sides = ClassMoments.from_features(features), (range(3), range(3, 8))
    for name, sums in (("kid", kid_sums(statistics)), ("mmd", mmd_sums(statistics, 2.0))):
        drawn = class_null(*sides, sums.squared_distance, 3, 6)
        assert getattr(found, name) == sums.squared_distance(*sides)
        assert getattr(found, f"{name}_null_mean") == drawn.mean
        assert getattr(found, f"{name}_null_sd") == drawn.sd
    assert found.mmd_kernel == sums.kernel


def test_a_point_is_never_nearer_to_itself_than_at_no_distance() -> None:
    features = make_features(classes=40, per_class=6, dimension=50)
    features.values[:] += 1e3
    sums = mmd_sums(ClassMoments.from_features(features, "class"), 1e-4)
    assert (sums.own <= sums.sizes).all() and (sums.pairs <= np.outer(sums.sizes, sums.sizes)).all()


def test_two_points_a_side_have_a_kernel_distance() -> None:
    statistics = ClassMoments.from_features(make_features(classes=2, per_class=2, dimension=3))
    sums = kid_sums(statistics)
    assert sums.pairs.shape == (2, 2) and sums.own.shape == (2,)
    k = (statistics.values.astype(np.float64) @ statistics.values.T / 3 + 1) ** 3
    expected = k[0, 1] + k[2, 3] - 2 * k[:2, 2:].mean()
    assert sums.squared_distance([0], [1]) == pytest.approx(expected, rel=1e-6)


def test_an_interval_lies_about_its_value_and_never_below_zero() -> None:
    features = make_features(classes=12, per_class=6, dimension=3)
    features.values[:] *= 0.01
    statistics, sides = ClassMoments.from_features(features), (range(6), range(6, 12))
    low, high = bootstrap_interval(statistics, *sides, 1.0, 20, 0)
    assert 0.9 < low < 1.0 < high < 1.1
    assert bootstrap_interval(statistics, *sides, 0.0, 20, 0) == (0.0, pytest.approx(high - 1.0))


def test_a_null_that_does_not_vary_gives_no_z() -> None:
    features = make_features(classes=4, per_class=6, dimension=3)
    found = measure_shift(
        features, Split(features.class_names[:2], features.class_names[2:]), null=0
    )
    assert with_null(found, 1.0, 0.0, 5).z is None
    drawn = with_null(found, 1.0, 0.5, 5)
    assert drawn.excess == found.fid - 1.0 and drawn.z == drawn.excess / 0.5
    assert (drawn.null_mean, drawn.null_sd, drawn.null_draws) == (1.0, 0.5, 5)


@pytest.mark.parametrize(
    ("per_class", "gap", "warned"), [(40, 0.0, True), (40, 9.0, False), (2, 90.0, True)]
)
def test_bias_is_warned_of_where_it_is_large_or_cannot_be_told(
    per_class: int, gap: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    features = make_features(classes=6, per_class=per_class, dimension=4)
    features.values[:] = np.random.default_rng(9).standard_normal(features.values.shape)
    features.values[features.labels >= 3] += gap
    measure_shift(features, Split(features.class_names[:3], features.class_names[3:]), null=0)
    assert ("finite-sample bias" in caplog.text) == warned
