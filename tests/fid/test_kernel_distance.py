"""Kernel distances from sums over classes equal the direct double loop."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_features
from fid.conftest import pool

from oodml.errors import DataError
from oodml.fid.class_moments import ClassMoments
from oodml.fid.kernel_distance import kid_sums, median_distance, mmd_sums
from oodml.seeding import generator


def direct(x, y, kernel):
    n, m = len(x), len(y)
    within = [
        sum(kernel(p, q) for i, p in enumerate(side) for j, q in enumerate(side) if i != j)
        / (len(side) * (len(side) - 1))
        for side in (x, y)
    ]
    return sum(within) - 2 * sum(kernel(p, q) for p in x for q in y) / (n * m)


def sides(features, train, test):
    return [features.values[np.isin(features.labels, c)].astype(np.float64) for c in (train, test)]


@pytest.mark.parametrize("level", ["sample", "class"])
def test_kid_equals_the_double_loop(level):
    features = pool(classes=10, per_class=4, d=16, offset=0.5)
    train, test = [0, 3, 4, 8], [1, 2, 9]
    x, y = sides(features, train, test)
    if level == "class":
        means = ClassMoments.from_features(features)
        x, y = (means.means[c] + means.centre for c in (train, test))
    value = kid_sums(ClassMoments.from_features(features, level)).squared_distance(train, test)
    expected = direct(x, y, lambda p, q: (p @ q / 16 + 1) ** 3)
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert kid_sums(ClassMoments.from_features(features, level)).kernel == "(x.y / d + 1)^3"


def test_mmd_equals_the_double_loop_and_states_its_kernel():
    features = pool(classes=8, per_class=4, d=16)
    statistics = ClassMoments.from_features(features)
    width = median_distance(statistics)
    x, y = sides(features, [0, 1, 2], [5, 6])
    sums = mmd_sums(statistics)
    expected = direct(x, y, lambda p, q: np.exp(-((p - q) @ (p - q)) / (2 * width**2)))
    assert sums.squared_distance([0, 1, 2], [5, 6]) == pytest.approx(expected, rel=1e-9)
    assert sums.kernel == f"exp(-|x - y|^2 / (2 * {width:.6g}^2))"
    assert mmd_sums(statistics, 3.0).kernel == "exp(-|x - y|^2 / (2 * 3^2))"


def test_median_distance_is_the_median():
    features = pool(classes=5, per_class=4, d=6, uneven=False)
    values = features.values.astype(np.float64)
    distances = [np.linalg.norm(p - q) for i, p in enumerate(values) for q in values[:i]]
    statistics = ClassMoments.from_features(features)
    assert median_distance(statistics) == pytest.approx(np.median(distances), rel=1e-9)


@pytest.mark.parametrize("rows", [3, 11])  # of classes with 5 to 7 points
def test_sums_over_many_blocks_equal_one_block(rows, monkeypatch):
    statistics = ClassMoments.from_features(pool(classes=9, per_class=5, d=8))
    whole = kid_sums(statistics)
    monkeypatch.setattr("oodml.fid.kernel_distance.ROWS", rows)
    blocks = kid_sums(statistics)
    np.testing.assert_allclose(blocks.pairs, whole.pairs, rtol=1e-10)
    np.testing.assert_allclose(blocks.own, whole.own, rtol=1e-10)


def test_kid_of_equal_distributions_is_zero_on_average():
    features = pool(classes=60, per_class=5, d=24, spread=0.0)
    sums = kid_sums(ClassMoments.from_features(features))
    values = []
    for index in range(200):
        order = generator(index, "kid null").permutation(60)
        values.append(sums.squared_distance(order[:10], order[10:20]))
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)


def test_one_point_a_side_is_refused():
    sums = kid_sums(ClassMoments.from_features(pool(classes=6), "class"))
    with pytest.raises(DataError, match="at least 2"):
        sums.squared_distance([0], [1, 2])
    same = pool(classes=6)
    same.values[:] = 1.0
    with pytest.raises(DataError, match="bandwidth"):
        mmd_sums(ClassMoments.from_features(same))


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
