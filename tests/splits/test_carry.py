"""The product behind a distance, carried along a walk in few dimensions by lowering a threshold."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_features

from oodml.fid.frechet import frechet_distance
from oodml.splits import carry
from oodml.splits.pool import Pool
from oodml.splits.sides import WALK_TOLERANCE, Sides
from oodml.splits.walk import climbs


def test_a_carried_distance_is_that_of_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "LEAST_DIMENSION", 48)
    features = make_features(classes=24, per_class=30, dimension=48)
    # Moved points must be few beside the dimensions: eight classes hold two each.
    kept = np.flatnonzero((np.arange(len(features)) % 30 < 2) | (features.labels > 7))
    features = type(features)(
        features.values[kept], features.labels[kept], features.class_names, features.source
    )
    pool = Pool.of(features)
    sides = Sides.of(pool, np.arange(0, 24, 2), np.arange(1, 24, 2))
    assert sides.carry is not None and sides.carry.steps == 0
    assert sides.carry.terms(1.0) is None and sides.carry.product() is not None
    for step in range(15):
        small = [side[side <= 7] for side in (sides.train, sides.test)]
        out, back = (side[[step % len(side)]] for side in small)
        before = sides
        sides = (
            sides.without(small[0][:2], small[1][:1]) if step == 5 else sides.exchange(out, back)
        )
        assert sides.carry is not None
        assert sides.carry.steps == (step + 1) % (carry.MOST_STEPS + 1)
        values = [
            features.values[np.isin(features.labels, side)] for side in (sides.train, sides.test)
        ]
        exact = frechet_distance(*values)
        assert sides.fid == pytest.approx(exact, rel=1e-9)
        assert sides.exact_terms.value == pytest.approx(exact, rel=1e-9)
        if sides.carry.steps:
            carried = sides.carry.terms(WALK_TOLERANCE)
            assert carried is not None and carried == sides.terms
        for sign in (1, -1):
            assert climbs(before, sides, sign) == (sign * (sides.fid - before.fid) > 0)


def test_many_points_at_once_are_not_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "LEAST_DIMENSION", 40)
    pool = Pool.of(make_features(classes=24, per_class=30, dimension=40))
    sides = Sides.of(pool, np.arange(12), np.arange(12, 24))
    assert sides.exchange(np.array([0]), np.array([12])).carry.steps == 0  # type: ignore[union-attr]
    monkeypatch.setattr(carry, "LEAST_DIMENSION", 41)
    assert Sides.of(pool, np.arange(12), np.arange(12, 24)).carry is None


def test_a_split_without_a_factor_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "LEAST_DIMENSION", 48)
    monkeypatch.setattr(carry, "MOST_POINTS", 9.0)
    features = make_features(classes=8, per_class=20, dimension=48)
    features.values[:, 7] = 1.0
    sides = Sides.of(Pool.of(features), np.arange(4), np.arange(4, 8))
    assert sides.carry is not None and sides.carry.product() is None
    moved = sides.exchange(np.array([0]), np.array([4]))
    assert moved.carry is not None and moved.carry.steps == 1
    values = [features.values[np.isin(features.labels, side)] for side in (moved.train, moved.test)]
    assert moved.fid == pytest.approx(frechet_distance(*values), rel=1e-9)


def test_few_points_are_measured_from_their_inner_products() -> None:
    features = make_features(classes=8, per_class=3, dimension=20)
    pool = Pool.of(features)
    assert pool.gram is not None
    sides = Sides.of(pool, np.arange(3), np.arange(3, 8))
    values = [features.values[np.isin(features.labels, side)] for side in (sides.train, sides.test)]
    assert sides.fid == pytest.approx(frechet_distance(*values), rel=1e-9)
