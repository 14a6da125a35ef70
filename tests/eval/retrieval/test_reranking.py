import numpy as np
import pytest

from oodml.errors import DataError, UsageError
from oodml.eval.retrieval.evaluate import DEFAULT_METRICS, evaluate
from oodml.eval.retrieval.reranking import evaluate_reranked, rerank
from oodml.features.features import Features, FeatureSource

SOURCE = FeatureSource("test", "0" * 16, "none", "0" * 64, "none", "fp32")
ALL = (*DEFAULT_METRICS, "recall_at_50", "mean_average_precision", "map_c_ooDML")


def features(count=60, dimension=6, classes=9, noise=1.2, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.append(draw.integers(0, classes, count - 1), classes)
    centres = draw.normal(size=(classes + 1, dimension))
    values = centres[labels] + noise * draw.normal(size=(count, dimension))
    names = tuple(f"c{number}" for number in range(classes + 1))
    return Features(values.astype(np.float32), labels, names, SOURCE)


def cosine_distance(query):
    unit = query.values.astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return 1 - unit @ unit.T


def dense_rerank(distance, k1, k2, weight):
    """Sections 3.2 to 3.4 of arXiv:1701.08398 on full matrices, overlap strict as in its code."""
    count = len(distance)
    order = [
        [i, *[j for j in np.argsort(distance[i], kind="stable") if j != i]] for i in range(count)
    ]
    near = [[set(row[: k + 1]) for row in order] for k in range(count)]

    def reciprocal(i, k):
        return {j for j in near[k][i] if i in near[k][j]}

    memberships = np.zeros((count, count))
    for i in range(count):
        own = reciprocal(i, k1)
        expanded = set(own)
        for j in own:
            small = reciprocal(j, round(k1 / 2))
            if 3 * len(small & own) > 2 * len(small):
                expanded |= small
        chosen = sorted(expanded)
        memberships[i, chosen] = np.exp(-distance[i, chosen])
        memberships[i] /= memberships[i].sum()
    memberships = np.stack([memberships[row[:k2]].mean(0) for row in order])
    smaller = np.minimum(memberships[:, None], memberships[None]).sum(2)
    larger = np.maximum(memberships[:, None], memberships[None]).sum(2)
    return weight * distance + (1 - weight) * (1 - smaller / larger)


@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (7, 1, 0.0), (4, 3, 0.8)])
def test_distances_equal_a_dense_implementation(k1, k2, weight):
    query = features(seed=k1)
    expected = dense_rerank(cosine_distance(query), k1, k2, weight)
    ours = rerank(query, k1=k1, k2=k2, weight=weight)
    assert ours.index.shape == (60, 59)
    assert (np.diff(ours.distance) >= 0).all()
    np.testing.assert_allclose(
        ours.distance, np.take_along_axis(expected, ours.index, 1), atol=1e-6
    )
    assert (np.sort(ours.index) == np.sort(rerank(query, weight=1).index)).all()
    assert not (ours.index == np.arange(60)[:, None]).any()


@pytest.mark.parametrize("candidates", [5, 200])
def test_weight_one_leaves_every_metric_unchanged(candidates):
    query = features(150, seed=1)
    plain = evaluate(query, metrics=ALL)
    assert evaluate_reranked(query, ALL, weight=1, candidates=candidates) == pytest.approx(plain)


def test_few_candidates_are_those_of_the_whole_and_the_rest_keeps_its_rank():
    query = features(80, seed=2)
    whole, few = rerank(query), rerank(query, candidates=10)
    nearest = np.argsort(cosine_distance(query) + 9 * np.eye(80), axis=1)
    for row in range(80):
        kept = [index for index in whole.index[row] if index in nearest[row, :10]]
        assert few.index[row].tolist() == kept
    scores = evaluate_reranked(query, ["recall_at_50"], candidates=10)
    assert scores == pytest.approx(evaluate(query, metrics=["recall_at_50"]))


def test_scores_equal_those_of_the_new_order():
    query = features(90, seed=3)
    order = rerank(query).index
    hits = query.labels[order] == query.labels[:, None]
    found = hits.sum(1) > 0
    precision = (hits.cumsum(1) / np.arange(1, 90))[found]
    hits = hits[found]
    ours = evaluate_reranked(query, ["recall_at_1", "recall_at_4", "mean_average_precision"])
    assert ours["recall_at_1"] == pytest.approx(hits[:, 0].mean())
    assert ours["recall_at_4"] == pytest.approx(hits[:, :4].any(1).mean())
    expected = ((precision * hits).sum(1) / hits.sum(1)).mean()
    assert ours["mean_average_precision"] == pytest.approx(expected)
    assert (ours["queries"], ours["queries_left_out"]) == (89, 1)


def test_reciprocal_neighbours_help_on_noisy_clusters():
    query = features(400, dimension=8, classes=12, noise=0.9, seed=4)
    metric = "mean_average_precision"
    plain = evaluate(query, metrics=[metric])[metric]
    assert evaluate_reranked(query, [metric])[metric] > plain + 0.02


def test_exact_duplicates_are_neighbours_and_ties_are_finite():
    query = features(30, seed=5)
    query.values[10:20] = query.values[0]
    scores = evaluate_reranked(query, ALL)
    assert all(0 <= scores[name] <= 1 for name in ALL)


@pytest.mark.parametrize(
    "settings", [{"k1": 0}, {"k2": 0}, {"candidates": 0}, {"weight": 1.5}, {"weight": float("nan")}]
)
def test_settings_out_of_range_get_one_line(settings):
    with pytest.raises(UsageError):
        rerank(features(), **settings)


def test_what_cannot_be_reranked_gets_one_line():
    with pytest.raises(UsageError, match="nmi"):
        evaluate_reranked(features(), ["nmi"])
    with pytest.raises(UsageError, match="'recall'"):
        evaluate_reranked(features(), ["recall"])
    query = features()
    alone = Features(query.values[:3], np.arange(3), ("a", "b", "c"), SOURCE)
    with pytest.raises(DataError, match="3 queries"):
        evaluate_reranked(alone)
