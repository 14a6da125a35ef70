"""The bias of a distance against its formula and against simulated populations."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_features
from fid.conftest import pool

from oodml.errors import UsageError
from oodml.fid.class_moments import ClassMoments, split_terms
from oodml.fid.frechet import frechet_distance
from oodml.fid.sampling_bias import expected_bias, infinite_sample_distance
from oodml.seeding import generator


def test_extrapolation_finds_the_value_of_infinite_samples_and_is_refused_below_2d():
    features = pool(classes=40, per_class=100, d=24, spread=0.0, uneven=False)
    statistics = ClassMoments.from_features(features)
    train, test = range(20), range(20, 40)
    plain = split_terms(statistics, train, test).value
    value = infinite_sample_distance(statistics, train, test)
    assert abs(value) < 0.4 * plain
    with pytest.raises(UsageError, match="needs 48"):
        infinite_sample_distance(ClassMoments.from_features(pool(d=24), "class"), train, test)


def test_the_estimated_bias_is_what_equal_populations_show():
    d, sizes = 32, (600, 900)
    spectrum = np.geomspace(1, 0.05, d)
    values = []
    for index in range(12):
        rng = generator(index, "bias")
        a, b = (rng.standard_normal((n, d)) * np.sqrt(spectrum) for n in sizes)
        values.append(frechet_distance(a, b))
    assert expected_bias(np.diag(spectrum), *sizes) == pytest.approx(np.mean(values), rel=0.05)


def test_the_expected_bias_is_its_formula_for_sides_of_any_size() -> None:
    values = [0.5, 2.0, 3.0, 0.0]
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((4, 4)))[0]
    pairs = sum(x * y * (1 + (x == y)) / (x + y) for x in values[:3] for y in values[:3])
    for n_a, n_b in ((50, 50), (40, 160), (160, 40)):
        expected = (1 / n_a + 1 / n_b) * (sum(values) + pairs / 2)
        covariance = turn @ np.diag(values) @ turn.T
        assert expected_bias(covariance, n_a, n_b) == pytest.approx(expected, rel=1e-9)


def test_two_samples_per_dimension_are_enough_to_extrapolate_from() -> None:
    train, test = np.array([0, 1]), np.array([2, 3])
    statistics = ClassMoments.from_features(make_features(classes=4, per_class=4, dimension=4))
    assert np.isfinite(infinite_sample_distance(statistics, train, test))
    statistics = ClassMoments.from_features(make_features(classes=4, per_class=4, dimension=5))
    with pytest.raises(UsageError, match="8 samples on one side"):
        infinite_sample_distance(statistics, train, test)
