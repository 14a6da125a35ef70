import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import pair_confusion_matrix

from oodml.errors import DataError, UsageError
from oodml.eval.retrieval import clustering
from oodml.eval.retrieval.clustering import (
    cluster,
    k_means,
    normalized_mutual_information,
    pairwise_f1,
    score_clusters,
)
from oodml.eval.retrieval.evaluate import evaluate
from oodml.features.features import Features, FeatureSource
from oodml.seeding import derive_seed

SOURCE = FeatureSource("test", "0" * 16, "none", "0" * 64, "none", "fp32")


def blobs(count=200, classes=5, noise=0.1, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    values = 3 * np.eye(classes, 8)[labels] + noise * draw.normal(size=(count, 8))
    names = tuple(f"c{number}" for number in range(classes + 1))
    return Features(values.astype(np.float32), labels, names, SOURCE)


@pytest.mark.parametrize("seed", range(3))
def test_nmi_and_f1_equal_scikit_learn(seed):
    draw = np.random.default_rng(seed)
    classes, clusters = draw.integers(0, 9, 120), draw.integers(0, 6, 120)
    clusters[:60] = classes[:60]
    expected = normalized_mutual_info_score(classes, clusters)
    assert normalized_mutual_information(clusters, classes) == pytest.approx(expected)
    (_, wrong), (missed, right) = pair_confusion_matrix(classes, clusters)
    assert pairwise_f1(clusters, classes) == pytest.approx(2 * right / (2 * right + wrong + missed))


def test_closed_forms():
    classes = np.array([0, 0, 1, 1])
    assert normalized_mutual_information(1 - classes, classes) == pytest.approx(1)
    assert normalized_mutual_information(np.array([0, 1, 0, 1]), classes) == pytest.approx(0)
    # One cluster joins all 6 pairs, 2 of which are pairs of classes.
    assert pairwise_f1(np.zeros(4, int), classes) == pytest.approx(2 * 2 / (6 + 2))
    assert pairwise_f1(np.arange(4), np.arange(4)) == 0


def test_separate_classes_are_found_whatever_their_scale():
    query = blobs()
    query.values[::3] *= 50
    scores = evaluate(query, metrics=["nmi", "f1"])
    assert scores == {"nmi": pytest.approx(1), "f1": pytest.approx(1)}
    mixed = evaluate(query, metrics=["recall_at_1", "nmi"])
    assert list(mixed)[:2] == ["recall_at_1", "nmi"]
    assert mixed["queries"] == 200


def test_a_collapsed_embedding_shares_no_information():
    query = blobs()
    query.values[:] = 1
    assert score_clusters(query)["nmi"] == pytest.approx(0, abs=1e-9)


def test_the_result_depends_neither_on_global_state_nor_on_threads():
    query = blobs(noise=2.0)
    first = cluster(query.values, 5, restarts=2, iterations=4)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        second = cluster(query.values, 5, restarts=2, iterations=4)
    finally:
        torch.set_num_threads(threads)
    assert (first == second).all()
    assert (cluster(query.values, 5, seed=1, restarts=1, iterations=1) != first).any()


def test_more_restarts_never_leave_more_inertia():
    values = blobs(noise=2.0, seed=3).values
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)

    def inertia(restarts):
        found = cluster(values, 12, restarts=restarts)
        return sum(
            ((unit[found == one] - unit[found == one].mean(0)) ** 2).sum() for one in set(found)
        )

    assert inertia(20) < inertia(1) - 0.1


def test_errors_are_one_line(monkeypatch):
    with pytest.raises(DataError, match="3 samples"):
        cluster(np.eye(3, dtype=np.float32), 4)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match="faiss-cpu"):
        score_clusters(blobs())


def test_clusters_start_from_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def listening(seed: int, *purpose: str | int) -> int:
        asked.append((seed, *purpose))
        return derive_seed(seed, *purpose)

    monkeypatch.setattr(clustering, "derive_seed", listening)
    values = blobs(60).values
    cluster(values, 3, seed=5, restarts=1)
    k_means(values, 3, seed=6, restarts=1)
    k_means(values, 3)
    cluster(values, 3)
    starts = [k_means(values, 12, seed=seed, restarts=1, iterations=1) for seed in (1, 1, 2)]
    assert (starts[0] == starts[1]).all() and (starts[0] != starts[2]).any()
    assert asked[:4] == [(seed, "k-means") for seed in (5, 6, 0, 0)]


def test_seeds_of_clusters_keep_31_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    values, found = blobs(60).values, []
    for seed in (5, 5 + 2 * 31, 5 + 2**31, 5 + 2**31 - 1):
        monkeypatch.setattr(clustering, "derive_seed", lambda *_, seed=seed: seed)
        found.append(k_means(values, 12, restarts=1, iterations=1).tolist())
    assert found[0] == found[2] and found[0] not in (found[1], found[3])


def test_one_cluster_and_as_many_as_there_are_samples() -> None:
    values = blobs(8, 8).values
    assert cluster(values, 1).tolist() == [0] * 8
    assert sorted(cluster(values, 8).tolist()) == list(range(8))
    assert k_means(values, 2).dtype == np.int64
