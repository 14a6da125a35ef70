"""Gains are derivatives: of FID by the share of a unit's points that changes sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_features

from oodml.fid.frechet import frechet_distance_from_moments
from oodml.splits.state import Pool
from oodml.splits.transport_gain import Gains


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
