"""Batches by cluster: one cluster each, in turn, and never a sample without company."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from conftest import make_spec

from oodml.train.methods.parts import clusters
from oodml.train.methods.parts.clusters import batches_in_turn, members_by_cluster

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
    given = batches_in_turn(spec, CLASSES, CLUSTERS, batches=number, seed=5, epoch=1)
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
    other = batches_in_turn(spec, CLASSES, CLUSTERS, batches=4, seed=6, epoch=1)
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
