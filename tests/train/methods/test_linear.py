"""Linear baselines against their definitions, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from oodml.errors import DataError
from oodml.train.methods.linear import (
    discriminant,
    neighbourhood_components,
    shrunk_covariance,
    some_classes,
)
from oodml.train.registry import get_method

Values = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def sample(
    classes: int = 6, per_class: int = 10, size: int = 12, seed: int = 0
) -> tuple[Values, Labels]:
    """Classes that differ along two axes only, with far larger noise along a third."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((classes * per_class, size))
    labels = np.repeat(np.arange(classes), per_class)
    values[:, :2] += 4 * random.standard_normal((classes, 2))[labels]
    values[:, 2] *= 20
    return (values + 5).astype(np.float32), labels


def embedded(name: str, values: Values, labels: Labels, dimension: int, **own: float) -> Values:
    torch.manual_seed(0)
    fit = get_method(name).build(int(labels.max()) + 1, dimension, **own)
    module = fit(values, labels)
    assert not list(module.parameters()) and set(module.state_dict()) == {"mean", "matrix"}
    embedding: Values = module(torch.from_numpy(values)).numpy()
    return embedding


def same_up_to_sign(first: Values, second: Values) -> bool:
    return np.allclose(np.abs(first), np.abs(second), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [12, 200])
def test_whitened_components_are_those_of_scikit_learn(size: int) -> None:
    values, labels = sample(size=size)
    ours = embedded("pca_whitening", values, labels, 5)
    assert np.allclose(ours.T @ ours / len(ours), np.eye(5), atol=1e-4)
    # scikit-learn divides by n - 1.
    theirs = PCA(5, whiten=True).fit_transform(values.astype(np.float64))
    assert same_up_to_sign(ours, theirs * np.sqrt(60 / 59))
    turned = embedded("pca_whitening", values, labels, 5, power=0.0)
    assert same_up_to_sign(turned, PCA(5).fit_transform(values.astype(np.float64)))


def test_no_direction_without_variance_is_blown_up() -> None:
    values, labels = sample(size=12)
    values[:, 5:] = values[:, :1]
    assert embedded("pca_whitening", values, labels, 12).shape == (60, 5)
    few = values[:3]
    assert embedded("pca_whitening", few, labels[:3] + np.arange(3), 12).shape == (3, 2)


def test_discriminants_are_those_of_scikit_learn_where_nothing_is_shrunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plain(centred: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return centred.T @ centred / len(centred)

    monkeypatch.setattr("oodml.train.methods.linear.shrunk_covariance", plain)
    values, labels = sample()
    # Classes of several sizes: 2 to 12 samples.
    values, labels = values[8:], np.repeat(np.arange(6), [2, 12, 8, 10, 11, 9])
    exact = values.astype(np.float64)
    ours = (exact - exact.mean(axis=0)) @ discriminant(exact, labels, 4).T
    theirs = LinearDiscriminantAnalysis(solver="eigen", n_components=4).fit(exact, labels)
    assert same_up_to_sign(ours, (exact - exact.mean(axis=0)) @ theirs.scalings_[:, :4])
    # The same along the way that is taken for more classes than features.
    values, labels = sample(classes=30, size=12)
    exact = values.astype(np.float64)
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(exact, labels)
    assert same_up_to_sign(discriminant(exact, labels, 12).T, theirs.scalings_[:, :12])


def test_the_shrunk_covariance_is_that_of_scikit_learn() -> None:
    for shape in ((50, 10), (10, 30), (4, 3)):
        values = np.random.default_rng(0).standard_normal(shape) * np.linspace(0.1, 2, shape[1])
        theirs, share = ledoit_wolf(values, assume_centered=True)
        assert 0 < share <= 1 and np.allclose(shrunk_covariance(values), theirs)
    assert np.allclose(shrunk_covariance(np.eye(3)), np.eye(3) / 3)


@pytest.mark.parametrize("size", [12, 300])
def test_discriminants_see_the_classes_through_the_noise(size: int) -> None:
    values, labels = sample(size=size)
    ours = embedded("lda", values, labels, 3)
    means = np.stack([ours[labels == each].mean(axis=0) for each in range(6)])
    within = (ours - means[labels]).var(axis=0)
    assert (means.var(axis=0)[:2] > 3 * within[:2]).all()


def test_discriminants_are_fewer_than_classes_and_stand_lonely_samples() -> None:
    values, labels = sample(classes=2)
    assert embedded("lda", values, labels, 8).shape == (20, 1)
    alone = np.arange(len(values))
    assert np.isfinite(embedded("lda", values, alone, 4)).all()
    for name in ("pca_whitening", "lda", "nca"):
        with pytest.raises(DataError, match="all equal"):
            embedded(name, np.ones_like(values), labels, 4)


def test_neighbourhood_components_raise_the_chance_of_a_neighbour_of_the_own_class() -> None:
    values, labels = sample()
    white = embedded("pca_whitening", values, labels, 12)

    def chance(points: npt.NDArray[np.float64]) -> float:
        squared = ((points[:, None] - points[None]) ** 2).sum(axis=2)
        weights = np.exp(-squared) * (1 - np.eye(len(points)))
        share = weights / weights.sum(axis=1, keepdims=True)
        return float((share * (labels[:, None] == labels)).sum())

    exact = white.astype(np.float64)
    scaled = exact / np.sqrt(2 * exact.var(axis=0).sum())
    learned = scaled @ neighbourhood_components(exact, labels, 10).T
    assert chance(learned) > 1.5 * chance(scaled)


def test_neighbourhoods_are_those_of_whole_classes_drawn_by_the_seed() -> None:
    labels = np.repeat(np.arange(20), 5)
    rows = some_classes(labels, 12, seed=0)
    assert len(rows) == 15 and (np.bincount(labels[rows])[np.unique(labels[rows])] == 5).all()
    assert rows.tolist() == some_classes(labels, 12, seed=0).tolist()
    assert rows.tolist() != some_classes(labels, 12, seed=1).tolist()
    assert len(some_classes(labels, 1000, seed=0)) == 100
    values, labels = sample()
    first, second = (embedded("nca", values, labels, 4, samples=20) for _ in range(2))
    assert first.shape == (60, 4) and np.array_equal(first, second)
