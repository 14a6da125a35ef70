"""Distances of random splits and intervals, against the samples and their seeds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_features
from fid.conftest import pool

from oodml.fid import null
from oodml.fid.class_moments import ClassMoments, split_terms
from oodml.fid.frechet import frechet_distance
from oodml.fid.null import bootstrap_interval, random_class_splits, split_distance
from oodml.fid.shift import measure_shift


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
    for sides_of_pool in ((train, test), (order[:6], order[6:])):
        value = split_distance(statistics, *sides_of_pool)(train, test)
        sides = [features.values[np.isin(features.labels, side)] for side in (train, test)]
        assert value == pytest.approx(frechet_distance(*sides), rel=1e-9)


def split(features, train, test):
    names = features.class_names
    return SimpleNamespace(
        train_classes=tuple(names[i] for i in train), test_classes=tuple(names[i] for i in test)
    )


def halves(features):
    count = len(features.class_names)
    return split(features, range(count // 2), range(count // 2, count))


def test_draws_depend_on_the_seed_and_the_set_of_classes_only():
    features = pool()
    names = features.class_names
    one = measure_shift(features, halves(features), seed=3, kid=False)
    other = measure_shift(
        features,
        SimpleNamespace(train_classes=names[:20][::-1], test_classes=names[20:]),
        seed=3,
        kid=False,
    )
    assert one == other
    again = measure_shift(features, halves(features), seed=4, kid=False)
    assert again.null_mean != one.null_mean
    for train, test in random_class_splits(range(5), range(5, 15), 20, seed=0):
        assert len(train) == 5
        assert sorted([*train, *test]) == list(range(15))


def test_the_interval_holds_the_value_and_narrows_with_more_classes():
    widths = []
    for classes in (20, 80):
        statistics = ClassMoments.from_features(pool(classes=classes, d=12))
        train, test = range(classes // 2), range(classes // 2, classes)
        value = split_terms(statistics, train, test).value
        low, high = bootstrap_interval(statistics, train, test, value, 40, 0)
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_an_interval_lies_about_its_value_and_never_below_zero() -> None:
    features = make_features(classes=12, per_class=6, dimension=3)
    features.values[:] *= 0.01
    statistics, sides = ClassMoments.from_features(features), (range(6), range(6, 12))
    low, high = bootstrap_interval(statistics, *sides, 1.0, 20, 0)
    assert 0.9 < low < 1.0 < high < 1.1
    assert bootstrap_interval(statistics, *sides, 0.0, 20, 0) == (0.0, pytest.approx(high - 1.0))
