"""Baselines without gradient training: frozen features, PCA whitening, LDA and NCA.

Large-margin (LMNN) and information-theoretic (ITML) Mahalanobis metrics are left out: their
library, metric-learn, had its last release (0.7.0) in 2023, and all of its estimators fail with
scikit-learn from 1.8 on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import cholesky, eigh, solve_triangular
from torch import Tensor, nn

from oodml.errors import DataError
from oodml.seeding import generator
from oodml.train.registry import method

Features = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Fit = Callable[[Features, Labels], nn.Module]
# Directions whose variance is a smaller share of the largest one are rounding errors.
SMALLEST_VARIANCE = 1e-6


@method("frozen", paper="-", training="none")
def frozen(num_classes: int, embedding_dim: int) -> None:
    """The backbone's features without any training."""


@method("pca_whitening", paper="10.1037/h0071325", training="fit", source="textbook")
def pca_whitening(num_classes: int, embedding_dim: int, *, power: float = 0.5) -> Fit:
    """PCA whitening: the first principal components, each divided by its variance to a power."""

    def fit(values: Features, labels: Labels) -> nn.Module:
        exact = values.astype(np.float64)
        return Projection(exact.mean(axis=0), whitening(exact, embedding_dim, power))

    return fit


@method("lda", paper="10.1111/j.1469-1809.1936.tb02137.x", training="fit", source="textbook")
def lda(num_classes: int, embedding_dim: int) -> Fit:
    """LDA: Fisher's linear discriminants, the within-class covariance shrunk and whitened.

    The embedding has at most as many dimensions as there are classes, less one.
    """

    def fit(values: Features, labels: Labels) -> nn.Module:
        exact = values.astype(np.float64)
        return Projection(exact.mean(axis=0), discriminant(exact, labels, embedding_dim))

    return fit


@method(
    "nca",
    paper="papers.nips.cc/paper/2566",
    training="fit",
    source="samples and iterations chosen here: about 2 seconds of one core",
)
def nca(num_classes: int, embedding_dim: int, *, samples: int = 1500, iterations: int = 10) -> Fit:
    """NCA: neighbourhood components analysis of whitened principal components, by scikit-learn.

    The principal components are fitted on all training samples, NCA on whole classes, drawn by the
    run's seed until there are `samples` samples. One iteration takes samples^2 * embedding_dim
    operations.
    """
    seed = int(torch.randint(2**31, ()))

    def fit(values: Features, labels: Labels) -> nn.Module:
        exact = values.astype(np.float64)
        axes = whitening(exact, embedding_dim)
        rows = some_classes(labels, samples, seed)
        turned = (exact[rows] - exact.mean(axis=0)) @ axes.T
        components = neighbourhood_components(turned, labels[rows], iterations)
        return Projection(exact.mean(axis=0), components @ axes)

    return fit


class Projection(nn.Module):
    """(x - mean) @ matrix.T for features x (B, C): (B, d)."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Values, matrix: Values) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer("matrix", torch.from_numpy(matrix.astype(np.float32)))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) @ self.matrix.T


def whitening(values: Values, dimension: int, power: float = 0.5) -> Values:
    """The matrix (d, C) onto the first d principal axes, divided by variance ** power.

    With a power of 1/2 the fitted values have the identity as covariance; with 0 they are only
    rotated. d is `dimension`, or the rank of the centred values (n, C) where that is smaller.
    """
    count, size = values.shape
    few = count < size
    centred = values - values.mean(axis=0)
    products = (centred @ centred.T if few else centred.T @ centred) / count
    variances, axes = _largest(products, min(dimension, count, size))
    if few:
        axes = centred.T @ axes / np.sqrt(variances * count)
    return (axes / variances**power).T


def discriminant(values: Values, labels: Labels, dimension: int) -> Values:
    """The matrix (d, C) of Fisher's discriminants, which whiten the within-class covariance.

    d is at most the number of classes - 1. The within-class covariance is shrunk towards a multiple
    of the identity by Ledoit and Wolf's formula (10.1016/S0047-259X(03)00096-4), which makes it
    invertible where there are more features than samples.
    """
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), values.shape[1]))
    np.add.at(means, place, values)
    means /= counts[:, None]
    within = shrunk_covariance(values - means[place])
    within.flat[:: len(within) + 1] += SMALLEST_VARIANCE * (values.var(axis=0).mean() or 1.0)
    factor = cholesky(within, lower=True)
    between = np.sqrt(counts / len(labels))[:, None] * (means - values.mean(axis=0))
    whitened = solve_triangular(factor, between.T, lower=True).T
    # The axes along which the whitened class means, weighted by size, spread most.
    gram = len(counts) < values.shape[1]
    variances, axes = _largest(
        whitened @ whitened.T if gram else whitened.T @ whitened,
        min(dimension, len(counts) - 1, values.shape[1]),
    )
    if gram:
        axes = whitened.T @ axes / np.sqrt(variances)
    return cast(Values, solve_triangular(factor, axes, lower=True, trans="T").T)


def shrunk_covariance(centred: Values) -> Values:
    """The covariance of centred values (n, C), shrunk by Ledoit and Wolf's formula.

    Equal to scikit-learn's, with one matrix product in place of three.
    """
    count, size = centred.shape
    covariance = centred.T @ centred / count
    mean = np.trace(covariance) / size
    energy = np.sum(covariance**2)
    noise = (np.mean(np.sum(centred**2, axis=1) ** 2) - energy) / count
    spread = energy - size * mean**2
    share = min(max(noise / spread, 0.0), 1.0) if spread > 0 else 1.0
    covariance *= 1 - share
    covariance.flat[:: size + 1] += share * mean
    return cast(Values, covariance)


def some_classes(labels: Labels, samples: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of whole classes, drawn in random order until `samples` rows are reached.

    `labels` is (n,) int64.
    """
    order = generator(seed, "classes").permutation(np.unique(labels))
    counts = np.array([np.count_nonzero(labels == each) for each in order])
    number = int(np.searchsorted(np.cumsum(counts), samples)) + 1
    return np.flatnonzero(np.isin(labels, order[:number]))


def neighbourhood_components(values: Values, labels: Labels, iterations: int) -> Values:
    """The matrix (d, d) of scikit-learn's neighbourhood components analysis.

    It is initialised to the identity on values (n, d) scaled to a mean squared distance of 1, so
    that a sample's soft neighbourhood holds many others. One iteration takes n^2 d operations.
    """
    from sklearn.neighbors import (
        NeighborhoodComponentsAnalysis,
    )

    scale = 1 / np.sqrt(2 * values.var(axis=0).sum())
    components = NeighborhoodComponentsAnalysis(init="identity", max_iter=iterations)
    components.fit(scale * values, labels)
    return cast(Values, components.components_)


def _largest(symmetric: Values, number: int) -> tuple[Values, Values]:
    size = len(symmetric)
    if not symmetric.any():
        raise DataError("the training features, or their class means, are all equal.")
    variances, axes = eigh(symmetric, subset_by_index=(size - number, size - 1))
    kept = variances > SMALLEST_VARIANCE * variances[-1]
    return variances[kept][::-1], axes[:, kept][:, ::-1]
