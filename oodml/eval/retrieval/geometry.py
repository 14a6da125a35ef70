"""The shape of an embedding: spectrum, density, alignment and uniformity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from oodml.errors import DataError
from oodml.eval.retrieval.nearest import normalized
from oodml.features.features import Features
from oodml.seeding import generator

Matrix = npt.NDArray[np.float64]

# Pairs for uniformity come from at most so many samples: 2.1 million pairs, whose mean is known
# to about a thousandth.
UNIFORMITY_SAMPLES = 2048
_SLICE = 512
# What float32 entries resolve of a singular value next to the largest, and of a distance.
_RESOLVED = 2.0**-23


def geometry(features: Features) -> dict[str, float]:
    """Properties of the L2-normalised vectors of labelled samples, in float64.

    - `spectral_decay`: KL(uniform || s), in nats, of the min(n, d) singular values s of the
      uncentred matrix (n, d), divided by their sum (rho of arXiv:2002.08473). Singular values
      below 2^-23 of the largest, which float32 does not resolve, are raised to that. 0 for a flat
      spectrum; it grows as directions are lost.
    - `intra_class_distance`: the cosine distance 1 - cos of two samples of a class, the mean over
      its pairs, then over classes. Classes of one sample have no pair and are left out.
    - `inter_class_distance`: the mean cosine distance of two L2-normalised class means, over all
      pairs of classes, those of one sample included.
    - `intra_over_inter`: their ratio, an inter-class distance below 2^-23 raised to that.
    - `alignment`: the squared distance of two samples of one class, mean over all such pairs
      (arXiv:2005.10242 with exponent 2).
    - `uniformity`: log of the mean of exp(-2 squared distance) over pairs of samples
      (arXiv:2005.10242 with t = 2); above 2,048 samples, the pairs of a seeded subset of so many.
    - `effective_rank`: exp of the entropy of s (Roy and Vetterli 2007), from 1 to min(n, d).

    Raises `DataError` with fewer than two classes, or no class of two samples.
    """
    labels = np.unique(features.labels, return_inverse=True)[1]
    sizes = np.bincount(labels)
    if len(sizes) < 2 or sizes.max() < 2:
        raise DataError(
            f"{features.source.dataset}: {len(labels)} samples of {len(sizes)} classes have no "
            "geometry; needed are two classes, and two samples in one of them."
        )
    unit = normalized(torch.from_numpy(features.values)).numpy()
    return {**_spectrum(unit), **_density(unit, labels, sizes), "uniformity": _uniformity(unit)}


def _spectrum(unit: npt.NDArray[np.float32]) -> dict[str, float]:
    values = singular_values(unit)
    # Vectors that are all zero lie in one point, like any other collapsed embedding.
    values[0] = values[0] or 1.0
    share = np.maximum(values, _RESOLVED * values[0])
    share = share / share.sum()
    return {
        "spectral_decay": max(0.0, float(-np.log(share * len(share)).mean())),
        "effective_rank": float(np.exp(-(share * np.log(share)).sum())),
    }


def singular_values(matrix: npt.NDArray[np.float32]) -> Matrix:
    """The min(n, d) singular values of a matrix (n, d), falling, from its smaller Gram matrix."""
    long = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = np.zeros((long.shape[1], long.shape[1]))
    for start in range(0, len(long), _SLICE):
        rows = long[start : start + _SLICE].astype(np.float64)
        gram += rows.T @ rows
    squares = np.linalg.eigvalsh(gram)[::-1]
    values: Matrix = np.sqrt(np.maximum(squares, 0))
    return values


def _density(
    unit: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> dict[str, float]:
    # The sum of all products of a class is the squared length of its sum: no pair is formed.
    sums, own = np.zeros((len(sizes), unit.shape[1])), np.zeros(len(sizes))
    for start in range(0, len(unit), _SLICE):
        places = labels[start : start + _SLICE]
        rows = unit[start : start + _SLICE].astype(np.float64)
        np.add.at(sums, places, rows)
        np.add.at(own, places, (rows**2).sum(1))
    paired = sizes > 1
    pairs = (sizes * (sizes - 1))[paired]
    products = ((sums**2).sum(1) - own)[paired]
    intra = max(float((1 - products / pairs).mean()), 0.0)
    squared = 2 * (own * (sizes - 1))[paired] - 2 * products
    inter = _mean_distance(sums)
    return {
        "intra_class_distance": intra,
        "inter_class_distance": inter,
        "intra_over_inter": intra / max(inter, _RESOLVED),
        "alignment": float(squared.sum() / pairs.sum()),
    }


def _mean_distance(vectors: Matrix) -> float:
    """The mean cosine distance over pairs of the vectors (c, d)."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1)
    count = len(unit)
    products = (unit.sum(0) ** 2).sum() - (unit**2).sum()
    return max(float(1 - products / (count * (count - 1))), 0.0)


def _uniformity(unit: npt.NDArray[np.float32]) -> float:
    if len(unit) > UNIFORMITY_SAMPLES:
        rows = generator(0, "uniformity").choice(len(unit), UNIFORMITY_SAMPLES, replace=False)
        unit = unit[np.sort(rows)]
    vectors = unit.astype(np.float64)
    squares = (vectors**2).sum(1)
    total = 0.0
    for start in range(0, len(vectors), _SLICE):
        stop = start + _SLICE
        products = vectors[start:stop] @ vectors[start:].T
        distance = np.maximum(squares[start:stop, None] + squares[start:] - 2 * products, 0)
        # Each pair once: above the diagonal.
        total += np.triu(np.exp(-2 * distance), 1).sum()
    pairs = len(vectors) * (len(vectors) - 1) / 2
    return float(np.log(total / pairs))
