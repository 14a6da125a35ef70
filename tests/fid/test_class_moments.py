"""Statistics per class, summed and moved, equal NumPy on all samples at once."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
from conftest import make_features
from fid.conftest import SOURCE, pool

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid import class_moments
from oodml.fid.class_moments import (
    ClassMoments,
    Moments,
    PooledGram,
    rows_of,
    split_terms,
)
from oodml.fid.frechet import frechet_terms
from oodml.fid.null import random_class_splits
from oodml.seeding import generator


def test_moments_of_all_classes_equal_numpy():
    features = pool(offset=100.0)
    statistics = ClassMoments.from_features(features)
    moments = statistics.of(range(40))
    values = features.values.astype(np.float64)
    assert moments.count == len(features)
    np.testing.assert_allclose(statistics.centre, values.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.mean, 0, atol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(values.T), rtol=1e-10, atol=1e-13)
    assert (moments.covariance == moments.covariance.T).all()
    for index in (0, 7, 39):
        rows = values[features.labels == index]
        np.testing.assert_allclose(statistics.means[index] + statistics.centre, rows.mean(axis=0))
        assert statistics.counts[index] == len(rows)


def test_class_level_has_one_unweighted_point_per_class():
    features = pool()
    statistics = ClassMoments.from_features(features, "class")
    means = np.stack(
        [features.values[features.labels == c].mean(0, dtype=float) for c in range(40)]
    )
    points = statistics.points(range(40))
    np.testing.assert_allclose(points, means - means.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(statistics.of(range(40)).covariance, np.cov(means.T), atol=1e-13)
    assert statistics.size([1, 2, 3]) == 3
    assert statistics.counts.sum() == len(features)


def test_any_batches_and_any_grouping_give_the_same_moments():
    features = pool(classes=12)
    statistics = ClassMoments.from_features(features)
    whole = statistics.of(range(12))
    order = generator(0, "batches").permutation(12)
    for cuts in ([5], [1, 2, 9], [3, 4, 5, 6]):
        parts = [statistics.of(part) for part in np.split(order, cuts)]
        for summed in (reduce(add, parts), reduce(add, parts[::-1])):
            assert summed.count == whole.count
            np.testing.assert_allclose(summed.scatter, whole.scatter, rtol=1e-12, atol=1e-12)


def test_adding_and_taking_away_a_class_restores_the_moments():
    statistics = ClassMoments.from_features(pool())
    start = statistics.of(range(20))
    back = start + statistics.of([30]) - statistics.of([30])
    assert back.count == start.count
    scale = np.abs(start.scatter).max()
    np.testing.assert_allclose(back.scatter, start.scatter, atol=1e-12 * scale)
    np.testing.assert_allclose(back.total, start.total, atol=1e-12 * np.abs(start.total).max())


@pytest.mark.parametrize("classes", [6, 40])
@pytest.mark.parametrize("level", ["sample", "class"])
def test_a_split_equals_the_distance_of_its_samples(level, classes):
    features = pool(classes=classes)
    statistics = ClassMoments.from_features(features, level)
    half = classes // 2
    values = features.values.astype(np.float64)
    if level == "class":
        values = np.stack([values[features.labels == c].mean(0) for c in range(classes)])
        a, b = values[:half], values[half:]
    else:
        a, b = values[features.labels < half], values[features.labels >= half]
    terms = split_terms(statistics, range(half), range(half, classes))
    assert terms.value == pytest.approx(frechet_terms(a, b).value, rel=1e-9)


def test_unsorted_labels_and_memory_maps_change_nothing(tmp_path):
    features = pool()
    order = generator(0, "shuffle").permutation(len(features))
    shuffled = Features(
        features.values[order], features.labels[order], features.class_names, SOURCE
    )
    np.save(tmp_path / "values.npy", features.values)
    mapped = Features(
        np.load(tmp_path / "values.npy", mmap_mode="r"),
        features.labels,
        features.class_names,
        SOURCE,
    )
    expected = ClassMoments.from_features(features).of([3, 9])
    for other in (shuffled, mapped):
        moments = ClassMoments.from_features(other).of([9, 3])
        np.testing.assert_allclose(moments.scatter, expected.scatter, rtol=1e-12, atol=1e-12)


def test_bad_statistics_get_one_clear_line():
    features = pool()
    with pytest.raises(UsageError, match="'image'"):
        ClassMoments.from_features(features, "image")
    empty = Features(features.values, features.labels, (*features.class_names, "void"), SOURCE)
    with pytest.raises(DataError, match="'void' has no samples"):
        ClassMoments.from_features(empty)
    statistics = ClassMoments.from_features(features)
    with pytest.raises(DataError, match="'nobody'"):
        statistics.indices(["class 001", "nobody"])
    with pytest.raises(DataError, match="cannot be taken"):
        statistics.of([1]) - statistics.of([1, 2])
    with pytest.raises(DataError, match="at least 2"):
        Moments(1, np.zeros(2), np.zeros((2, 2))).covariance
    one, two = (Moments(n, np.zeros(2), np.zeros((2, 2))) for n in (1, 2))
    with pytest.raises(DataError, match="cannot be taken"):
        one - two


@pytest.mark.parametrize("size", [1.0, 1e-30])
def test_a_side_of_images_that_are_all_alike_has_no_covariance(size):
    near = pool(classes=4, per_class=30, d=16, offset=3.0)
    values = near.values.copy()
    values[near.labels < 2] *= 0
    values[near.labels < 2] += size
    statistics = ClassMoments.from_features(Features(values, near.labels, near.class_names, SOURCE))
    terms = split_terms(statistics, [0, 1], [2, 3])
    other = values[near.labels >= 2].astype(float)
    np.testing.assert_allclose(terms.covariance, np.trace(np.cov(other.T)), rtol=1e-9)
    np.testing.assert_allclose(terms.mean, ((other.mean(0) - values[0]) ** 2).sum(), rtol=1e-9)


@pytest.mark.parametrize("rows_a_block", [1, 7, 24, 25, 1000])
def test_moments_of_many_blocks_equal_numpy(
    rows_a_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_moments, "BLOCK_ROWS", rows_a_block)
    features = make_features(classes=6, per_class=8, dimension=5)
    classes = [0, 2, 5]
    values = features.values[np.isin(features.labels, classes)].astype(np.float64)
    moments = ClassMoments.from_features(features).of(classes)
    centre = features.values.mean(axis=0, dtype=np.float64)
    assert moments.count == 24
    np.testing.assert_allclose(moments.mean, values.mean(axis=0) - centre, atol=1e-6)
    np.testing.assert_allclose(moments.covariance, np.cov(values.T), atol=1e-6)


def splits(classes, count):
    half = classes // 2
    return list(random_class_splits(range(half), range(half, classes), count, seed=0))


@pytest.mark.parametrize("level", ["sample", "class"])
@pytest.mark.parametrize("classes", [6, 20])
def test_inner_products_equal_features(level, classes):
    statistics = ClassMoments.from_features(pool(classes=classes, offset=30.0), level)
    gram = PooledGram.of(statistics)
    for train, test in splits(classes, 4):
        expected = split_terms(statistics, train, test)
        terms = gram.terms(train, test)
        assert terms.mean == pytest.approx(expected.mean, rel=1e-10)
        assert terms.covariance == pytest.approx(expected.covariance, rel=1e-10)
        assert gram.terms(test, train) == terms


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


def test_no_class_names_have_no_indices_of_any_other_kind() -> None:
    statistics = ClassMoments.from_features(make_features(classes=4, per_class=3, dimension=2))
    assert statistics.size([]) == len(statistics.points([])) == 0
    assert statistics.indices([]).dtype == statistics.indices(["class 002"]).dtype == np.int64


def test_inner_products_are_cached_up_to_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = ClassMoments.from_features(make_features(classes=6, per_class=5, dimension=4))
    monkeypatch.setattr(class_moments, "GRAM_POINTS", 30)
    assert class_moments.PooledGram.of(statistics).products.shape == (30, 30)
    monkeypatch.setattr(class_moments, "GRAM_POINTS", 29)
    with pytest.raises(UsageError, match="at most 29"):
        class_moments.PooledGram.of(statistics)
