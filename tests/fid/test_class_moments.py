"""Statistics per class, summed, moved and read from files, equal NumPy on all samples at once."""

from __future__ import annotations

import warnings
from functools import reduce
from operator import add

import numpy as np
import pytest
from conftest import make_features
from fid.conftest import SOURCE, pool, sample, traces

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.fid import class_moments
from oodml.fid.class_moments import ClassMoments, Moments, PooledGram, moments_of, split_terms
from oodml.fid.frechet import ROWS_NAMED, frechet_terms, require_finite
from oodml.fid.null import random_class_splits
from oodml.fid.statistics_files import (
    GaussianStatistics,
    read_statistics,
    statistics_terms,
    write_statistics,
)
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


def test_five_hundred_exchanges_drift_less_than_a_billionth():
    statistics = ClassMoments.from_features(pool(d=96, offset=100.0))
    rng = generator(0, "exchanges")
    train, test = list(range(20)), list(range(20, 40))
    a, b = statistics.of(train), statistics.of(test)
    for _ in range(500):
        i, j = rng.integers(20), rng.integers(20)
        points = statistics.points([train[i]]), statistics.points([test[j]])
        weights = np.repeat([-1.0, 1.0], [len(side) for side in points])
        moved = moments_of(np.concatenate(points), weights)
        a, b = a + moved, b - moved
        train[i], test[j] = test[j], train[i]
    for moments, side in ((a, train), (b, test)):
        fresh = statistics.of(side)
        assert moments.count == fresh.count
        drift = np.abs(moments.covariance - fresh.covariance).max()
        assert drift < 1e-9 * np.abs(fresh.covariance).max()
    walked = split_terms(statistics, train, test, train_moments=a, test_moments=b)
    assert walked.value == pytest.approx(split_terms(statistics, train, test).value, rel=1e-9)


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


@pytest.mark.parametrize("sizes", [(20, 30), (300, 400)])
def test_statistics_files_keep_the_distance(tmp_path, sizes):
    samples = [sample(n, 32, seed) for seed, n in enumerate(sizes)]
    for name, values in zip("ab", samples, strict=True):
        write_statistics(tmp_path / name, GaussianStatistics.of(values, network="made"))
    a, b = read_statistics(tmp_path / "a"), read_statistics(tmp_path / "b")
    assert (a.count, a.network) == (sizes[0], "made")
    expected = frechet_terms(*samples)
    assert abs(statistics_terms(a, b).value - expected.value) < 1e-9 * traces(*samples)


def test_files_of_peers_are_read(tmp_path):
    samples = [sample(n, 32, seed) for seed, n in enumerate((200, 300))]
    for name, values in zip("ab", samples, strict=True):
        np.savez(tmp_path / f"{name}.npz", mu=values.mean(0), sigma=np.cov(values.T))
    a, b = read_statistics(tmp_path / "a.npz"), read_statistics(tmp_path / "b.npz")
    assert (a.count, a.network) == (None, None)
    expected = frechet_terms(*samples).value
    assert statistics_terms(a, b).value == pytest.approx(expected, rel=1e-9)


def test_pytorch_fid_reads_our_files(tmp_path):
    peer = pytest.importorskip("pytorch_fid.fid_score")
    statistics = GaussianStatistics.of(sample(80, 16), network="made")
    write_statistics(tmp_path / "a.npz", statistics)
    mean, covariance = peer.compute_statistics_of_path(
        str(tmp_path / "a.npz"), None, 1, 16, "cpu", 0
    )
    assert (mean == statistics.mean).all()
    assert (covariance == statistics.covariance).all()


def test_bad_statistics_files_are_refused_by_name(tmp_path):
    mean, covariance = np.zeros(4), np.eye(4)
    skewed, indefinite, broken = covariance.copy(), covariance.copy(), covariance.copy()
    skewed[0, 1] = 0.5
    indefinite[0, 1] = indefinite[1, 0] = 2.0
    broken[0, 1] = np.nan
    cases = {
        "not symmetric": {"mu": mean, "sigma": skewed},
        "not positive semidefinite": {"mu": mean, "sigma": indefinite},
        "NaN or infinity": {"mu": mean, "sigma": broken},
        "no sigma": {"mu": mean},
        "shape": {"mu": np.zeros(3), "sigma": covariance},
    }
    path = tmp_path / "statistics.npz"
    for message, arrays in cases.items():
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message) as error:
            read_statistics(path)
        assert str(path) in str(error.value)
    path.write_bytes(b"not a zip file")
    with pytest.raises(DataError, match="not a readable"):
        read_statistics(path)
    with pytest.raises(DataError, match="no statistics file"):
        read_statistics(tmp_path / "absent.npz")
    np.savez(path, mu=np.array([object()]), sigma=covariance)
    with pytest.raises(DataError, match="not a readable"):
        read_statistics(path)


def test_networks_are_not_mixed():
    a, b = (GaussianStatistics.of(sample(9, 4), network) for network in ("one", "other"))
    with pytest.raises(DataError, match="different networks"):
        statistics_terms(a, b)


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


def test_all_rows_that_are_no_numbers_are_counted_and_the_first_named() -> None:
    values = np.ones((40, 3))
    require_finite(values, "features")
    values[5, 1] = np.nan
    with pytest.raises(DataError, match=r"row.* 5\b(?!.*more)"):
        require_finite(values, "features")
    values[20 : 20 + ROWS_NAMED - 1] = np.nan
    with pytest.raises(DataError, match=r"^(?!.*more)"):
        require_finite(values, "features")
    values[20:] = 1.0
    values[10:30, 0] = np.inf
    with pytest.raises(DataError, match=rf"\b5, 10\b.* and {21 - ROWS_NAMED} more"):
        require_finite(values, "features")


def test_a_sum_beyond_the_largest_number_accuses_no_row_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_finite(np.full((3, 1), 1e308), "features")
        with pytest.raises(DataError, match="2, 3"):
            require_finite(np.array([[1.0], [1.0], [np.inf], [-np.inf]]), "features")


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


def test_too_many_points_for_inner_products_are_refused(monkeypatch):
    monkeypatch.setattr("oodml.fid.class_moments.GRAM_POINTS", 50)
    with pytest.raises(UsageError, match="at most 50"):
        PooledGram.of(ClassMoments.from_features(pool()))
