import numpy as np
import pytest

from oodml.errors import DataError
from oodml.eval.retrieval import geometry as module
from oodml.eval.retrieval.geometry import geometry, singular_values
from oodml.features.features import Features, FeatureSource
from oodml.seeding import generator

SOURCE = FeatureSource("test", "0" * 16, "none", "0" * 64, "none", "fp32")
KEYS = {
    "spectral_decay",
    "intra_class_distance",
    "inter_class_distance",
    "intra_over_inter",
    "alignment",
    "uniformity",
    "effective_rank",
}


def features(values, labels):
    names = tuple(f"c{number}" for number in range(max(labels) + 1))
    return Features(np.asarray(values, np.float32), np.asarray(labels), names, SOURCE)


def random_features(count=60, dimension=5, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.append(draw.integers(0, 7, count - 2), [8, 9])
    return features(draw.normal(size=(count, dimension)) + 0.5 * labels[:, None], labels)


def every_pair(query):
    """The definitions in words, pair by pair."""
    unit = query.values / np.linalg.norm(query.values.astype(float), axis=1, keepdims=True)
    distance = ((unit[:, None] - unit[None]) ** 2).sum(2)
    off = ~np.eye(len(unit), dtype=bool)
    same = (query.labels[:, None] == query.labels) & off
    classes = [query.labels == label for label in np.unique(query.labels)]
    intra = [
        (distance[np.ix_(c, c)] / 2)[off[: c.sum(), : c.sum()]].mean()
        for c in classes
        if c.sum() > 1
    ]
    centres = np.stack([unit[c].mean(0) for c in classes])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    count = len(centres)
    inter = (1 - centres @ centres.T)[~np.eye(count, dtype=bool)].mean()
    share = np.linalg.svd(unit, compute_uv=False)
    share /= share.sum()
    return {
        "spectral_decay": np.sum(np.log(1 / len(share) / share)) / len(share),
        "effective_rank": np.exp(-np.sum(share * np.log(share))),
        "intra_class_distance": np.mean(intra),
        "inter_class_distance": inter,
        "intra_over_inter": np.mean(intra) / inter,
        "alignment": distance[same].mean(),
        "uniformity": np.log(np.exp(-2 * distance[off]).mean()),
    }


@pytest.mark.parametrize("shape", [(60, 5), (12, 30), (1100, 3)])
def test_values_equal_the_definitions_pair_by_pair(shape):
    query = random_features(*shape)
    ours = geometry(query)
    assert set(ours) == KEYS
    for name, value in every_pair(query).items():
        assert ours[name] == pytest.approx(value, rel=1e-6), name


def test_orthogonal_classes_have_a_flat_spectrum():
    scores = geometry(features(3 * np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]], [0, 1, 2, 3, 0, 1, 2, 3]))
    assert scores["spectral_decay"] == pytest.approx(0, abs=1e-12)
    assert scores["effective_rank"] == pytest.approx(4)
    assert (scores["intra_class_distance"], scores["alignment"]) == (0, 0)
    assert scores["inter_class_distance"] == 1
    # 4 of 28 pairs are equal, the others at squared distance 2.
    assert scores["uniformity"] == pytest.approx(np.log((4 + 24 * np.exp(-4)) / 28))


def test_a_collapsed_embedding_has_finite_numbers():
    scores = geometry(features(np.tile([[1.0, 2.0, 3.0]], (6, 1)), [0, 0, 1, 1, 2, 2]))
    assert all(np.isfinite(value) for value in scores.values())
    assert scores["effective_rank"] == pytest.approx(1, abs=1e-4)
    assert scores["spectral_decay"] > 9
    assert scores["uniformity"] == pytest.approx(0, abs=1e-6)
    assert scores["intra_over_inter"] == pytest.approx(0, abs=2)


def test_an_embedding_that_has_collapsed_to_zero_counts_as_one_direction():
    scores = geometry(features(np.zeros((6, 3)), [0, 0, 1, 1, 2, 2]))
    point = geometry(features(np.ones((6, 3)), [0, 0, 1, 1, 2, 2]))
    assert all(np.isfinite(value) for value in scores.values())
    for name in ("effective_rank", "spectral_decay", "uniformity"):
        assert scores[name] == pytest.approx(point[name], abs=1e-6), name


def test_lost_directions_raise_the_spectral_decay():
    draw = np.random.default_rng(0)
    values = draw.normal(size=(200, 8))
    labels = np.arange(200) % 4
    narrow = values * [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1]
    wide, lost = (geometry(features(each, labels)) for each in (values, narrow))
    assert lost["spectral_decay"] > wide["spectral_decay"] + 0.1
    assert lost["effective_rank"] < wide["effective_rank"] - 1


def test_scale_does_not_matter_and_a_zero_vector_is_allowed():
    query = random_features()
    scaled = features(query.values * np.linspace(0.1, 9, 60)[:, None], query.labels)
    for name, value in geometry(query).items():
        assert geometry(scaled)[name] == pytest.approx(value, rel=1e-5), name
    # Squared distances 1, 1 and 2.
    scores = geometry(features([[0, 0], [5, 0], [0, 7]], [0, 0, 1]))
    assert scores["uniformity"] == pytest.approx(np.log((2 * np.exp(-2) + np.exp(-4)) / 3))
    assert scores["alignment"] == 1


def test_uniformity_of_a_subset_is_seeded_and_near_that_of_all(monkeypatch):
    query = random_features(900, 6)
    every = geometry(query)["uniformity"]
    monkeypatch.setattr(module, "UNIFORMITY_SAMPLES", 300)
    some = geometry(query)["uniformity"]
    assert some == geometry(query)["uniformity"]
    assert some != every
    assert some == pytest.approx(every, abs=0.1)


def test_singular_values_are_those_of_numpy():
    matrix = np.random.default_rng(0).normal(size=(40, 9)).astype(np.float32)
    expected = np.linalg.svd(matrix.astype(float), compute_uv=False)
    np.testing.assert_allclose(singular_values(matrix), expected, rtol=1e-10)
    np.testing.assert_allclose(singular_values(matrix.T.copy()), expected, rtol=1e-10)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_one_class_or_no_pair_has_no_geometry(labels):
    with pytest.raises(DataError, match="two classes"):
        geometry(features(np.eye(3), labels))


def test_uniformity_is_that_of_the_drawn_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    query = random_features(900)
    rows = np.sort(generator(0, "uniformity").choice(900, 300, replace=False))
    drawn = Features(query.values[rows], query.labels[rows], query.class_names, SOURCE)
    expected = module.geometry(drawn)["uniformity"]
    monkeypatch.setattr(module, "UNIFORMITY_SAMPLES", 300)
    assert module.geometry(query)["uniformity"] == expected


def test_a_class_whose_samples_point_apart_has_a_direction_of_its_own() -> None:
    values = np.array([[1, 0], [-1, 0.2], [0, 3], [0, 1]], dtype=np.float32)
    query = Features(values, np.array([0, 0, 1, 1]), ("a", "b"), SOURCE)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    centre = (unit[0] + unit[1]) / np.linalg.norm(unit[0] + unit[1])
    assert np.linalg.norm(unit[0] + unit[1]) < 0.3
    found = module.geometry(query)["inter_class_distance"]
    assert found == pytest.approx(1 - centre[1], rel=1e-5)


def test_lost_directions_count_as_what_float32_resolves() -> None:
    values = np.tile(np.array([[1.0, 2.0, 2.0]], dtype=np.float32), (100, 1))
    found = module.geometry(Features(values, np.arange(100) % 2, ("a", "b"), SOURCE))
    share = np.array([1.0, 2.0**-23, 2.0**-23])
    share /= share.sum()
    assert found["spectral_decay"] == pytest.approx(-np.log(3 * share).mean(), rel=1e-6)
