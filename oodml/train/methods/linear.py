"""Linear maps of frozen features, the oldest form of metric learning.

Large-margin (LMNN) and information-theoretic (ITML) Mahalanobis metrics are not among them: their
library, metric-learn, had its last release (0.7.0) in 2023 and fails with the scikit-learn of
today, from 1.8 on, in every one of its estimators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from oodml.train.registry import method

if TYPE_CHECKING:
    from torch import nn

    from oodml.train.losses.linear import Values

    Labels = npt.NDArray[np.int64]
    Fit = Callable[[npt.NDArray[np.float32], Labels], nn.Module]


@method("pca_whitening", paper="10.1037/h0071325", training="fit", source="textbook")
def pca_whitening(num_classes: int, embedding_dim: int, *, power: float = 0.5) -> Fit:
    """The first principal components, each divided by its variance to a power; needs no labels."""
    from oodml.train.losses.linear import Projection, whitening

    def fit(values: npt.NDArray[np.float32], labels: Labels) -> nn.Module:
        exact = _exact(values)
        return Projection(exact.mean(axis=0), whitening(exact, embedding_dim, power))

    return fit


@method("lda", paper="10.1111/j.1469-1809.1936.tb02137.x", training="fit", source="textbook")
def lda(num_classes: int, embedding_dim: int) -> Fit:
    """Fisher's linear discriminants, with the covariance within classes shrunk and whitened.

    Never more dimensions than classes less one.
    """
    from oodml.train.losses.linear import Projection, discriminant

    def fit(values: npt.NDArray[np.float32], labels: Labels) -> nn.Module:
        exact = _exact(values)
        return Projection(exact.mean(axis=0), discriminant(exact, labels, embedding_dim))

    return fit


@method(
    "nca",
    paper="papers.nips.cc/paper/2566",
    training="fit",
    source="samples and iterations chosen here: about 2 seconds of one core",
)
def nca(num_classes: int, embedding_dim: int, *, samples: int = 1500, iterations: int = 10) -> Fit:
    """Neighbourhood components analysis of whitened principal components, by scikit-learn.

    One iteration takes samples^2 * embedding_dim operations: the principal components are those of
    all training samples, the neighbourhoods those of whole classes, drawn by the run's seed until
    there are `samples` of them.
    """
    import torch

    from oodml.train.losses.linear import (
        Projection,
        neighbourhood_components,
        some_classes,
        whitening,
    )

    seed = int(torch.randint(2**31, ()))

    def fit(values: npt.NDArray[np.float32], labels: Labels) -> nn.Module:
        exact = _exact(values)
        axes = whitening(exact, embedding_dim)
        rows = some_classes(labels, samples, seed)
        turned = (exact[rows] - exact.mean(axis=0)) @ axes.T
        components = neighbourhood_components(turned, labels[rows], iterations)
        return Projection(exact.mean(axis=0), components @ axes)

    return fit


def _exact(values: npt.NDArray[np.float32]) -> Values:
    from oodml.train.losses.linear import Values

    return cast(Values, values.astype(np.float64))
