"""Clusters: the same every time, none empty, and their names kept."""

from __future__ import annotations

from itertools import permutations

import faiss
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from oodml.errors import DataError
from oodml.train.methods import hierarchical_divide_and_conquer
from oodml.train.methods.hierarchical_divide_and_conquer import halved
from oodml.train.methods.parts.clusters import clusters_of, has_pairs, matched, with_company


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
    with pytest.raises(DataError, match="3 samples cannot make 4 clusters"):
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
    with pytest.raises(DataError, match="numbered below 2"):
        matched(np.array([0, 2]), np.array([0, 1]), 2)
    with pytest.raises(DataError, match="the same samples"):
        matched(np.array([0]), np.array([0, 1]), 2)


def test_merging_the_halves_gives_the_clusters_back() -> None:
    values, groups = blobs(4)
    parents = groups // 2
    halves = halved(values, parents, np.arange(80) % 5, seed=0)
    assert np.array_equal(halves // 2, parents)
    assert adjusted_rand_score(groups, halves) == 1.0


def test_what_cannot_be_split_stays_in_the_first_half() -> None:
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    parents = np.array([0, 0, 0, 2, 0, 0, 0])
    halves = halved(values, parents, np.zeros(7, dtype=np.int64), seed=0)
    assert halves[3] == 4 and set(np.delete(halves, 3)) == {0, 1}


def test_a_cluster_is_split_again_until_both_halves_have_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classes = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    tried = []

    def split(values: np.ndarray, k: int, *, seed: int) -> np.ndarray:
        tried.append(seed)
        return np.arange(8) // (4 if len(tried) == 3 else 6)

    monkeypatch.setattr(hierarchical_divide_and_conquer, "clusters_of", split)
    nothing = np.zeros(8, dtype=np.int64)
    halves = halved(np.zeros((8, 1), np.float32), nothing, classes, seed=0)
    assert halves.tolist() == [0, 0, 0, 0, 1, 1, 1, 1] and len(set(tried)) == 3
    tried += [0] * 9
    halves = halved(np.zeros((8, 1), np.float32), nothing, classes, seed=0)
    assert halves.tolist() == [0, 0, 0, 0, 0, 0, 1, 1] and len(tried) == 22


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
