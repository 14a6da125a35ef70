"""NMI and pairwise F1 of k-means clusters against the classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch

from oodml.errors import DataError, UsageError
from oodml.eval.retrieval.nearest import normalized
from oodml.features.features import Features
from oodml.seeding import derive_seed

Labels = npt.NDArray[np.int64]

RESTARTS, ITERATIONS = 5, 20
CLUSTERING_METRICS = {
    "nmi": "The information that k-means clusters and classes share, over their mean entropy.",
    "f1": "Precision and recall of the pairs that k-means clusters join, as their harmonic mean.",
}


def score_clusters(features: Features, metrics: Iterable[str] = ("nmi", "f1")) -> dict[str, float]:
    """The named clustering metrics of L2-normalised vectors, K being the number of their classes.

    The published study (arXiv:2107.09562) took the number of training classes for K instead.
    """
    labels = np.unique(features.labels, return_inverse=True)[1]
    clusters = cluster(features.values, int(labels.max()) + 1)
    scores = {"nmi": normalized_mutual_information, "f1": pairwise_f1}
    return {name: scores[name](clusters, labels) for name in metrics}


def cluster(
    values: npt.NDArray[np.float32],
    count: int,
    *,
    restarts: int = RESTARTS,
    iterations: int = ITERATIONS,
    seed: int = 0,
) -> Labels:
    """The cluster (n,) of every L2-normalised row of `values` (n, d), by Lloyd's k-means of faiss.

    Of several seeded starts the one with the least inertia is taken; all samples take part. faiss
    uses as many threads as torch does; their number touches the rounding of sums only. Raises
    `UsageError` if faiss is not installed, `DataError` for more clusters than samples.
    """
    unit = normalized(torch.from_numpy(values)).numpy()
    return k_means(unit, count, restarts=restarts, iterations=iterations, seed=seed)


def k_means(
    values: npt.NDArray[np.float32],
    count: int,
    *,
    restarts: int = RESTARTS,
    iterations: int = ITERATIONS,
    seed: int = 0,
    threads: int | None = None,
) -> Labels:
    """The same for rows of any length, on a given number of threads (None: torch's).

    `values` is (n, d) float32; the cluster of every row comes as (n,) int64.
    """
    if not 1 <= count <= len(values):
        raise DataError(f"{len(values)} samples cannot make {count} clusters.")
    rows = np.ascontiguousarray(values)
    with _faiss(threads) as faiss:
        means = faiss.Kmeans(
            rows.shape[1],
            count,
            niter=iterations,
            nredo=restarts,
            seed=derive_seed(seed, "k-means") % 2**31,
            min_points_per_centroid=1,
            max_points_per_centroid=len(rows),
        )
        means.train(rows)
        return np.asarray(means.assign(rows)[1], dtype=np.int64)


def normalized_mutual_information(one: Labels, other: Labels) -> float:
    """Mutual information of two labellings (n,), over the arithmetic mean of their entropies.

    From 0 (independent) to 1 (the same up to names); two labellings of one label each give 1.
    """
    joint, left, right = _tables(one, other)
    mean = (_entropy(left) + _entropy(right)) / 2
    return 1.0 if mean == 0 else max(2 * mean - _entropy(joint), 0.0) / mean


def pairwise_f1(clusters: Labels, classes: Labels) -> float:
    """F1 of the pairs of samples that share a cluster against those that share a class.

    With T pairs sharing both, it is 2 T / (pairs in clusters + pairs in classes); 0 without any.
    Both are int64 arrays (n,).
    """
    joint, left, right = (
        int((part * (part - 1) // 2).sum()) for part in _tables(clusters, classes)
    )
    return 2 * joint / (left + right) if left + right else 0.0


@contextmanager
def _faiss(threads: int | None) -> Iterator[ModuleType]:
    """faiss with that many threads within it (default: as many as PyTorch may use here).

    The number holds for the calling thread alone, which gets its own back. Raises `UsageError`
    where faiss is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise UsageError(
            "clustering needs faiss, which is not installed; type: pip install faiss-cpu."
        ) from None
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads or torch.get_num_threads())
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)


def _tables(one: Labels, other: Labels) -> tuple[Labels, Labels, Labels]:
    """How many samples share both labels, each of the one and each of the other."""
    pairs = one * (int(other.max()) + 1) + other
    joint, left, right = (
        np.unique(labels, return_counts=True)[1] for labels in (pairs, one, other)
    )
    return joint, left, right


def _entropy(counts: Labels) -> float:
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())
