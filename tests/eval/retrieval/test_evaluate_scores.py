import itertools

import numpy as np
import pytest
import torch
from conftest import make_features
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from oodml.errors import DataError, UsageError
from oodml.eval.retrieval.evaluate import DEFAULT_METRICS, evaluate, metric_names
from oodml.features.features import Features, FeatureSource

SOURCE = FeatureSource("test", "0" * 16, "none", "0" * 64, "none", "fp32")
ALL = (
    "precision_at_1",
    "recall_at_3",
    "recall_at_50",
    *DEFAULT_METRICS,
    "mean_average_precision",
    "mean_average_precision_at_5",
    "mean_average_precision_at_1000",
    "mean_average_precision_at_1000_ooDML",
    "map_c_ooDML",
)


def features(values, labels, names=None):
    labels = np.asarray(labels)
    names = names or tuple(f"c{number:03}" for number in range(labels.max() + 1))
    return Features(np.asarray(values, np.float32), labels, names, SOURCE)


def unbalanced(count=400, dimension=6, seed=0):
    """Classes of 1 to about 80 samples around their own centres, singletons among them."""
    draw = np.random.default_rng(seed)
    labels = np.sort((draw.pareto(0.7, count) * 8).astype(int) % 40)
    labels[:3] = 40, 41, 42
    labels = np.unique(labels, return_inverse=True)[1]
    centres = draw.normal(size=(labels.max() + 1, dimension))
    return features(centres[labels] + draw.normal(size=(count, dimension)), labels)


def scores_of_order(order, labels, own):
    """Textbook scores of one query from the labels of its gallery, nearest first."""
    hits = (np.asarray(labels)[list(order)] == own).astype(float)
    positives = int(hits.sum())
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    top = slice(0, positives)
    scores = {f"recall_at_{k}": float(hits[:k].any()) for k in (1, 2, 3, 4, 8, 50)}
    scores["precision_at_1"] = hits[0]
    scores["r_precision"] = hits[top].mean()
    scores["mean_average_precision_at_r"] = (precision * hits)[top].sum() / positives
    scores["mean_average_precision"] = (precision * hits).sum() / positives
    for k in (5, 1000):
        summed = (precision * hits)[:k].sum()
        scores[f"mean_average_precision_at_{k}"] = summed / min(positives, k)
    scores["mean_average_precision_at_1000_ooDML"] = summed / (positives + 1)
    summed = (precision * hits)[: positives + 1].sum()
    scores["map_c_ooDML"] = summed / (positives + 1)
    return scores


def brute_force(query, gallery=None):
    unit = query.values / np.linalg.norm(query.values.astype(np.float64), axis=1, keepdims=True)
    other = unit
    if gallery is not None:
        length = np.linalg.norm(gallery.values.astype(np.float64), axis=1, keepdims=True)
        other = gallery.values / length
    labels = np.array(query.class_names)[query.labels]
    found = labels if gallery is None else np.array(gallery.class_names)[gallery.labels]
    rows = []
    for i, similarity in enumerate(unit @ other.T):
        order = [j for j in np.argsort(-similarity, kind="stable") if gallery or j != i]
        if (found[order] == labels[i]).any():
            rows.append(scores_of_order(order, found, labels[i]))
    scores = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    return {**scores, "queries": len(rows), "queries_left_out": len(labels) - len(rows)}


@pytest.mark.parametrize("seed", range(3))
def test_values_equal_brute_force(seed):
    query = unbalanced(seed=seed)
    expected = brute_force(query)
    ours = evaluate(query, metrics=ALL)
    assert ours.pop("queries_tied") == 0
    assert set(ours) == {*ALL, "queries", "queries_left_out"}
    for name, value in ours.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name
    assert ours["queries_left_out"] >= 3


def test_values_equal_brute_force_with_a_gallery():
    query, gallery = unbalanced(150, seed=4), unbalanced(300, seed=5)
    names = tuple(reversed(gallery.class_names))
    gallery = features(gallery.values, gallery.labels, names)
    ours = evaluate(query, gallery, ALL)
    for name, value in brute_force(query, gallery).items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name


def test_values_equal_pytorch_metric_learning():
    query = unbalanced(600, seed=9)
    metrics = (
        "precision_at_1",
        "r_precision",
        "mean_average_precision_at_r",
        "mean_average_precision",
    )
    calculator = AccuracyCalculator(
        include=metrics, device=torch.device("cpu"), knn_func=cosine_search
    )
    theirs = calculator.get_accuracy(torch.from_numpy(query.values), torch.from_numpy(query.labels))
    ours = evaluate(query, metrics=metrics)
    for name in metrics:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name


def cosine_search(query, k, reference, same_source):
    assert same_source
    similarity = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(reference).T
    return similarity.fill_diagonal_(-2).topk(len(query) - 1, dim=1)


@pytest.mark.parametrize("seed", range(4))
def test_ties_score_the_mean_over_every_order(seed):
    draw = np.random.default_rng(seed)
    kinds = np.append(draw.integers(0, 3, 6), 0)
    labels = np.append(draw.integers(0, 2, 6), 0)
    angles = np.array([0.0, 0.5, 1.2])[kinds]
    query = features(np.stack([np.cos(angles), np.sin(angles)], 1), labels)
    metrics = [name for name in ALL if name != "recall_at_50"]
    rows = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        if (labels[others] != labels[i]).all():
            continue
        distance = np.abs(angles - angles[i])
        orders = [
            o for o in itertools.permutations(others) if (np.diff(distance[list(o)]) >= 0).all()
        ]
        scores = [scores_of_order(order, labels, labels[i]) for order in orders]
        rows.append({name: np.mean([score[name] for score in scores]) for name in metrics})
    ours = evaluate(query, metrics=metrics)
    assert ours["queries_tied"] > 0
    for name in metrics:
        assert ours[name] == pytest.approx(np.mean([row[name] for row in rows]), abs=1e-12), name


def test_a_collapsed_embedding_scores_what_chance_gives():
    labels = np.repeat(np.arange(30), 20)
    collapsed = np.tile(np.random.default_rng(0).normal(size=(1, 33)), (600, 1))
    scores = evaluate(features(collapsed, labels))
    chance = 19 / 599
    assert scores["recall_at_1"] == pytest.approx(chance, rel=1e-9)
    assert scores["r_precision"] == pytest.approx(chance, rel=1e-9)
    none_of_2 = (580 / 599) * (579 / 598)
    assert scores["recall_at_2"] == pytest.approx(1 - none_of_2, rel=1e-9)
    assert scores["mean_average_precision_at_r"] < chance
    assert scores["queries_tied"] == 600


def test_scores_depend_neither_on_memory_nor_on_the_order_of_samples():
    query = unbalanced(300, seed=2)
    query.values[100:130] = query.values[0]
    expected = evaluate(query, metrics=ALL)
    assert expected["queries_tied"] > 0
    for memory in (1, 4 << 20):
        assert evaluate(query, metrics=ALL, memory=memory) == expected
    order = np.random.default_rng(0).permutation(300)
    shuffled = evaluate(
        features(query.values[order], query.labels[order], query.class_names), metrics=ALL
    )
    for name, value in shuffled.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name


def test_perfect_clustering_scores_one_and_duplicates_are_not_the_query():
    labels = np.repeat(np.arange(12), 5)
    scores = evaluate(features(np.eye(12)[labels], labels), metrics=ALL)
    published = ("mean_average_precision_at_1000_ooDML", "map_c_ooDML")
    assert {scores[name] for name in ALL if name not in published} == {1.0}
    # The ceiling of the published variants is R / (R + 1).
    assert [scores[name] for name in published] == pytest.approx([0.8, 0.8])
    two = features([[1, 0], [1, 0], [0, 1], [0, 1]], [0, 1, 0, 1])
    assert evaluate(two, metrics=["recall_at_1"])["recall_at_1"] == 0


def test_more_neighbours_than_samples_may_be_asked_for():
    scores = evaluate(features(np.eye(4), [0, 0, 1, 1]), metrics=["recall_at_1000"])
    assert scores["recall_at_1000"] == 1


def test_bad_input_names_what_was_given():
    query = features(np.eye(4), [0, 0, 1, 1])
    with pytest.raises(UsageError, match=r"'recal_at_1'.*'recall_at_K'"):
        evaluate(query, metrics=["recal_at_1"])
    for name in ("recall_at_0", "nmi_at_1"):
        with pytest.raises(UsageError, match=name):
            evaluate(query, metrics=[name])
    for one, other in (
        (features(np.eye(4), [0, 1, 2, 3]), None),
        (features(np.eye(4), [0, 0, 0, 0]), None),
        (query, features(np.eye(2), [0, 1])),
    ):
        with pytest.raises(DataError):
            evaluate(one, other)


def test_metrics_are_described():
    names = dict(metric_names())
    assert {"recall_at_K", "mean_average_precision_at_K", "nmi", "f1", "map_c_ooDML"} <= set(names)
    assert all(description.endswith((".", ")")) for description in names.values())
    query = features(np.eye(4), [0, 0, 1, 1])
    every = [name.replace("_K", "_3") for name in names]
    assert set(every) < set(evaluate(query, metrics=every))


COUNTS = {"queries", "queries_left_out", "queries_tied"}


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (("f1",), {"f1"}),
        (("nmi",), {"nmi"}),
        (("nmi", "recall_at_2"), {"nmi", "recall_at_2"} | COUNTS),
        (("r_precision",), {"r_precision"} | COUNTS),
    ],
)
def test_only_what_was_asked_for_is_measured(asked: tuple[str, ...], given: set[str]) -> None:
    found = make_features(classes=5, per_class=4)
    scores = evaluate(found, metrics=asked)
    assert set(scores) == given and tuple(scores)[: len(asked)] == asked
    assert evaluate(found, found.subset(found.class_names), asked).keys() == scores.keys()


def test_queries_or_gallery_may_be_of_one_class() -> None:
    found = make_features(classes=3, per_class=4)
    one, two = (found.subset(found.class_names[:count]) for count in (1, 2))
    for query, gallery in ((one, two), (two, one)):
        assert evaluate(query, gallery, ("recall_at_1",))["queries"] == 4
    with pytest.raises(DataError, match="class"):
        evaluate(one, one, ("recall_at_1",))
