"""Scores that draw: from which stream, and what of the embedding the draw leaves."""

from __future__ import annotations

import numpy as np
import pytest

from oodml.eval.retrieval import clustering, geometry
from oodml.eval.retrieval.clustering import cluster, k_means
from oodml.features.features import Features, FeatureSource
from oodml.seeding import derive_seed, generator

SOURCE = FeatureSource("test", "0" * 16, "none", "0" * 64, "none", "fp32")


def embedding(count: int = 900) -> Features:
    values = np.random.default_rng(0).standard_normal((count, 6)).astype(np.float32)
    return Features(values, np.arange(count) % 7, tuple("abcdefg"), SOURCE)


def test_uniformity_is_that_of_the_drawn_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    query = embedding()
    rows = np.sort(generator(0, "uniformity").choice(900, 300, replace=False))
    drawn = Features(query.values[rows], query.labels[rows], query.class_names, SOURCE)
    expected = geometry.geometry(drawn)["uniformity"]
    monkeypatch.setattr(geometry, "UNIFORMITY_SAMPLES", 300)
    assert geometry.geometry(query)["uniformity"] == expected


def test_clusters_start_from_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def listening(seed: int, *purpose: str | int) -> int:
        asked.append((seed, *purpose))
        return derive_seed(seed, *purpose)

    monkeypatch.setattr(clustering, "derive_seed", listening)
    values = embedding(60).values
    cluster(values, 3, seed=5, restarts=1)
    k_means(values, 3, seed=6, restarts=1)
    k_means(values, 3)
    cluster(values, 3)
    starts = [k_means(values, 12, seed=seed, restarts=1, iterations=1) for seed in (1, 1, 2)]
    assert (starts[0] == starts[1]).all() and (starts[0] != starts[2]).any()
    assert asked[:4] == [(seed, "k-means") for seed in (5, 6, 0, 0)]


def test_seeds_of_clusters_keep_31_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    values, found = embedding(60).values, []
    for seed in (5, 5 + 2 * 31, 5 + 2**31, 5 + 2**31 - 1):
        monkeypatch.setattr(clustering, "derive_seed", lambda *_, seed=seed: seed)
        found.append(k_means(values, 12, restarts=1, iterations=1).tolist())
    assert found[0] == found[2] and found[0] not in (found[1], found[3])


def test_one_cluster_and_as_many_as_there_are_samples() -> None:
    values = embedding(8).values
    assert cluster(values, 1).tolist() == [0] * 8
    assert sorted(cluster(values, 8).tolist()) == list(range(8))
    assert k_means(values, 2).dtype == np.int64


def test_a_class_whose_samples_point_apart_has_a_direction_of_its_own() -> None:
    values = np.array([[1, 0], [-1, 0.2], [0, 3], [0, 1]], dtype=np.float32)
    query = Features(values, np.array([0, 0, 1, 1]), ("a", "b"), SOURCE)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    centre = (unit[0] + unit[1]) / np.linalg.norm(unit[0] + unit[1])
    assert np.linalg.norm(unit[0] + unit[1]) < 0.3
    found = geometry.geometry(query)["inter_class_distance"]
    assert found == pytest.approx(1 - centre[1], rel=1e-5)


def test_lost_directions_count_as_what_float32_resolves() -> None:
    values = np.tile(np.array([[1.0, 2.0, 2.0]], dtype=np.float32), (100, 1))
    found = geometry.geometry(Features(values, np.arange(100) % 2, ("a", "b"), SOURCE))
    share = np.array([1.0, 2.0**-23, 2.0**-23])
    share /= share.sum()
    assert found["spectral_decay"] == pytest.approx(-np.log(3 * share).mean(), rel=1e-6)
