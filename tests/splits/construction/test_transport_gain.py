"""Gains and bounds: derivatives of FID, transport maps, and limits in a principal subspace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_features
from fid.conftest import pool

from oodml.errors import DataError
from oodml.fid.class_moments import ClassMoments, split_terms
from oodml.fid.frechet import frechet_distance_from_moments
from oodml.fid.null import random_class_splits
from oodml.splits.construction.state import Pool, Sides
from oodml.splits.construction.transport_gain import (
    Gains,
    PrincipalSubspace,
    by_gain,
    transport_map,
)
from oodml.splits.construction.walk import (
    EASIER,
    HARDER,
)


def weighted_distance(values: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """FID of points that count in part on either side."""
    moments: list[np.ndarray] = []
    for weights in (train, test):
        mean = weights @ values / weights.sum()
        centred = values - mean
        moments += [mean, (weights[:, None] * centred).T @ centred / weights.sum()]
    return frechet_distance_from_moments(*moments)


def test_gains_equal_differences_with_classes_of_all_sizes() -> None:
    features = make_features(classes=14, per_class=60, dimension=3, seed=5)
    kept = np.flatnonzero(np.arange(len(features)) % 60 < 12 + 6 * (features.labels % 9))
    features = replace(features, values=features.values[kept], labels=features.labels[kept])
    values, labels = features.values.astype(np.float64), features.labels
    pool = Pool.of(features)
    train, test = np.array([0, 1, 2, 4, 7, 8, 12]), np.array([3, 5, 6, 9, 10, 11, 13])
    own, other = (np.isin(labels, side).astype(np.float64) for side in (train, test))
    gains = Gains.of(pool, 10**6).of_sides(train, test)
    for side, sign, gained in ((train, 1, gains[0]), (test, -1, gains[1])):
        for unit, gain in zip(side, gained, strict=True):
            share = 1e-4 * sign * (labels == unit)
            change = weighted_distance(values, own - share, other + share)
            change -= weighted_distance(values, own + share, other - share)
            assert gain == pytest.approx(change / 2e-4, rel=0.02, abs=0.02 * np.abs(gained).mean())


@pytest.mark.parametrize(("fewest", "dimension"), [(3, 1), (8, 2), (40, 10), (64, 16), (999, 16)])
def test_gains_look_at_as_many_dimensions_as_points_allow(fewest: int, dimension: int) -> None:
    assert Gains.of(Pool.of(make_features()), fewest).inside.dimension == dimension


def test_the_units_that_gain_most_move_first() -> None:
    pool = Pool.of(make_features(classes=14, per_class=10, dimension=4))
    sides = Sides.of(pool, np.arange(0, 14, 2), np.arange(1, 14, 2))
    gains = Gains.of(pool, 70)
    for own, gain, harder, easier in zip(
        (sides.train, sides.test),
        gains.of_sides(sides.train, sides.test),
        by_gain(gains)(sides, HARDER),
        by_gain(gains)(sides, EASIER),
        strict=True,
    ):
        assert len(set(gain)) == 7
        assert harder.tolist() == own[np.argsort(-gain)].tolist()
        assert easier.tolist() == harder[::-1].tolist()


def splits(classes, count):
    half = classes // 2
    return list(random_class_splits(range(half), range(half, classes), count, seed=0))


@pytest.mark.parametrize("level", ["sample", "class"])
@pytest.mark.parametrize("dimension", [4, 16, 48])
def test_the_exact_distance_lies_within_the_limits(level, dimension):
    statistics = ClassMoments.from_features(pool(), level)
    subspace = PrincipalSubspace.of(statistics, dimension)
    for train, test in [*splits(40, 6), (np.arange(9), np.arange(12, 40))]:
        interval = subspace.interval(train, test)
        exact = split_terms(statistics, train, test).value
        assert interval.lower <= exact <= interval.upper
        assert dimension < 48 or interval.lower > 0.8 * exact


def test_limits_narrow_as_dimensions_grow_and_close_at_full_rank():
    statistics = ClassMoments.from_features(pool())
    train, test = splits(40, 1)[0]
    exact = split_terms(statistics, train, test).value
    widths = []
    for dimension in (8, 32, 56, 64):
        interval = PrincipalSubspace.of(statistics, dimension).interval(train, test)
        widths.append(interval.upper - interval.lower)
    assert widths == sorted(widths, reverse=True)
    assert interval.lower == pytest.approx(exact, rel=1e-6)
    assert interval.upper == pytest.approx(exact, rel=1e-6)


def test_moments_inside_the_subspace_may_be_handed_over():
    statistics = ClassMoments.from_features(pool())
    subspace = PrincipalSubspace.of(statistics, 16)
    train, test = splits(40, 1)[0]
    given = subspace.interval(
        train,
        test,
        train_moments=subspace.inside.of(train[:5]) + subspace.inside.of(train[5:]),
        test_moments=subspace.inside.of(test),
    )
    assert given.lower == pytest.approx(subspace.interval(train, test).lower, rel=1e-9)


def test_a_subspace_knows_its_classes() -> None:
    statistics = ClassMoments.from_features(make_features(classes=6, per_class=5, dimension=4))
    inside = PrincipalSubspace.of(statistics, 2).inside
    assert (inside.class_names, inside.level) == (statistics.class_names, "sample")
    assert inside.indices(["class 003"]).tolist() == [3]
    assert inside.counts.tolist() == [5] * 6 and inside.dimension == 2
    leading = np.linalg.eigh(np.cov(statistics.points(range(6)), rowvar=False))[1][:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(inside.means), np.abs(statistics.means @ leading), atol=1e-12)
    assert inside.centre.tolist() == [0.0, 0.0]


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


def test_the_transport_map_carries_one_covariance_to_the_other():
    statistics = ClassMoments.from_features(pool())
    a, b = statistics.of(range(20)).covariance, statistics.of(range(20, 40)).covariance
    t = transport_map(a, b)
    np.testing.assert_allclose(t @ a @ t, b, atol=1e-8 * np.abs(b).max())
    np.testing.assert_allclose(np.linalg.inv(t), transport_map(b, a), rtol=1e-5, atol=1e-6)
    expected = np.trace(a) + np.trace(b) - 2 * np.trace(t @ a)
    terms = split_terms(statistics, range(20), range(20, 40))
    assert terms.covariance == pytest.approx(expected, rel=1e-8)
    with pytest.raises(DataError, match="spread"):
        transport_map(np.zeros((3, 3)), np.eye(3))


def test_a_transport_map_between_singular_covariances_is_finite() -> None:
    a, b = np.diag([1.0, 4.0, 0.0]), np.diag([9.0, 1.0, 0.0])
    found = transport_map(a, b)
    np.testing.assert_allclose(found[:2, :2], np.diag([3.0, 0.5]), atol=1e-6)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found @ a @ found, b, atol=1e-4)


def test_the_transport_map_gives_the_first_order_change():
    statistics = ClassMoments.from_features(pool(classes=30, per_class=40, d=12))
    a, b = statistics.of(range(15)).covariance, statistics.of(range(15, 30)).covariance
    change = statistics.of([3]).covariance * 1e-5
    t = transport_map(a, b)
    predicted = np.trace((np.eye(12) - t) @ change)
    zero = np.zeros(12)
    before = frechet_distance_from_moments(zero, a, zero, b)
    after = frechet_distance_from_moments(zero, a + change, zero, b)
    assert after - before == pytest.approx(predicted, rel=1e-3)
