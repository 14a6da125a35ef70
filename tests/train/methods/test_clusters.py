"""Clusters of training samples, their names, and batches of one cluster at a time."""

from __future__ import annotations

from itertools import islice, permutations

import faiss
import numpy as np
import pytest
from conftest import make_spec
from sklearn.metrics import adjusted_rand_score

from oodml.errors import DataError
from oodml.train.methods.parts import clusters
from oodml.train.methods.parts.clusters import (
    batches_in_turn,
    clusters_of,
    has_pairs,
    matched,
    members_by_cluster,
    with_company,
)


def blobs(count: int, size: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = 10 * np.eye(count, 6)
    values = np.repeat(centres, size, axis=0) + random.normal(size=(count * size, 6))
    return values.astype(np.float32), np.repeat(np.arange(count), size)


def test_separate_groups_are_found_whatever_the_seed() -> None:
    values, groups = blobs(2)
    for seed in range(3):
        labels = clusters_of(values, 2, seed=seed)
        assert labels.dtype == np.int64 and labels.shape == (40,)
        assert adjusted_rand_score(groups, labels) == 1.0


def test_the_same_seed_gives_the_same_clusters_on_any_number_of_threads() -> None:
    values = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    before = faiss.omp_get_max_threads()
    once = clusters_of(values, 7, seed=3)
    faiss.omp_set_num_threads(2)
    try:
        assert np.array_equal(clusters_of(values, 7, seed=3), once)
        assert faiss.omp_get_max_threads() == 2, "the caller's number is put back"
    finally:
        faiss.omp_set_num_threads(before)
    assert not np.array_equal(clusters_of(values, 7, seed=4), once)


def test_rows_are_taken_at_their_length() -> None:
    near, far = np.full((5, 3), 0.1, np.float32), np.full((5, 3), 9.0, np.float32)
    labels = clusters_of(np.concatenate([near, far]), 2, seed=0)
    assert len(set(labels[:5])) == len(set(labels[5:])) == 1
    assert labels[0] != labels[-1]


def test_no_cluster_is_empty_even_among_equal_rows() -> None:
    equal = np.ones((6, 4), dtype=np.float32)
    assert set(clusters_of(equal, 4, seed=0)) == {0, 1, 2, 3}
    equal[0] = 5
    assert set(clusters_of(equal, 6, seed=0)) == set(range(6))


def test_more_clusters_than_rows_are_an_error() -> None:
    with pytest.raises(DataError, match=r"3 .* 4"):
        clusters_of(np.eye(3, dtype=np.float32), 4, seed=0)


def test_any_relabelling_is_undone() -> None:
    old = np.random.default_rng(0).integers(0, 4, 60)
    for names in permutations(range(4)):
        assert np.array_equal(matched(np.array(names)[old], old, 4), old)


def test_the_matching_shares_as_many_samples_as_any_renaming() -> None:
    random = np.random.default_rng(1)
    for _ in range(5):
        new, old = random.integers(0, 4, (2, 50))
        best = max(int((np.array(names)[new] == old).sum()) for names in permutations(range(4)))
        assert int((matched(new, old, 4) == old).sum()) == best


def test_empty_clusters_are_matched_too_and_wrong_labels_refused() -> None:
    assert np.array_equal(matched(np.array([2, 2, 0]), np.array([0, 0, 1]), 3), [0, 0, 1])
    with pytest.raises(DataError, match="from 0 to 1"):
        matched(np.array([0, 2]), np.array([0, 1]), 2)
    with pytest.raises(DataError, match="1 and 2"):
        matched(np.array([0]), np.array([0, 1]), 2)


def test_a_sample_alone_in_its_class_and_cluster_has_no_company() -> None:
    classes = np.array([0, 0, 0, 1, 1, 2, 2])
    groups = np.array([0, 0, 1, 1, 1, 0, 1])
    assert with_company(classes, groups).tolist() == [True, True, False, True, True, False, False]


@pytest.mark.parametrize(
    ("classes", "enough"),
    [([0, 0, 1, 1], True), ([0, 0, 1], False), ([0, 0, 0], False), ([], False)],
)
def test_pairs_of_both_kinds_need_two_classes_of_two(classes: list[int], enough: bool) -> None:
    assert has_pairs(np.array(classes, dtype=np.int64)) is enough


CLASSES = np.repeat(np.arange(12), 6)

# Clusters 0 and 2 share classes, 1 has two classes; class 0 has one sample in 2.
CLUSTERS = np.where(CLASSES < 6, 0, np.where(CLASSES < 8, 1, 2))

CLUSTERS[0] = 2


def drawn(number: int, **settings: object) -> list[np.ndarray]:
    spec = make_spec(
        "m",
        batch_size=12,
        **settings,
    )  # type: ignore[arg-type]
    given = batches_in_turn(spec.training, CLASSES, CLUSTERS, batches=number, seed=5, epoch=1)
    return list(islice(given, number))


@pytest.mark.parametrize("kind", ["balanced", "shuffled"])
def test_clusters_take_turns_and_no_sample_is_without_company(kind: str) -> None:
    batches = drawn(9, batches=kind)
    owners = [set(CLUSTERS[index]) for index in batches]
    assert owners == [{0}, {1}, {2}] * 3
    assert all(0 not in index for index in batches)


def test_batches_are_balanced_and_a_small_cluster_gives_more_of_each_class() -> None:
    large, small, _ = drawn(3, samples_per_class=2)
    assert np.unique(CLASSES[large], return_counts=True)[1].tolist() == [2] * 6
    assert np.unique(CLASSES[small], return_counts=True)[1].tolist() == [6, 6]
    assert len(set(small)) == 12


def test_an_epoch_is_the_same_for_the_same_seed_only() -> None:
    first, again = drawn(4), drawn(4)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    spec = make_spec(
        "m",
        batch_size=12,
    )
    other = batches_in_turn(spec.training, CLASSES, CLUSTERS, batches=4, seed=6, epoch=1)
    assert not all(np.array_equal(*pair) for pair in zip(first, other, strict=False))


def test_clusters_without_two_classes_of_two_make_no_batches() -> None:
    clusters = np.where(CLASSES == 3, 1, 0)
    clusters[[30, 36]] = 2
    (members,) = members_by_cluster(CLASSES, clusters)
    assert set(clusters[members]) == {0} and len(members) == 64
    assert members_by_cluster(CLASSES, CLASSES) == []


def test_processes_get_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "world_size", lambda: 5)
    assert [len(index) for index in drawn(3)] == [10, 5, 10]
