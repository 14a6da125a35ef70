"""Clusters of training samples, and how the clusters of two times belong together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from oodml.errors import DataError
from oodml.eval.retrieval.clustering import k_means
from oodml.seeding import derive_seed

Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]

# Training clusters again and again: fewer starts than an evaluation takes.
RESTARTS, ITERATIONS = 3, 20
# How often a split is tried before it is taken as it is.
TRIALS = 10


def clusters_of(values: Values, k: int, *, seed: int) -> Labels:
    """The cluster (n,) int64, from 0, of every row of `values` (n, d) float32, by k-means.

    The rows are taken as they are: bring them to unit length first where directions are meant. The
    same for the same values and seed, whatever the number of threads. No cluster is empty, even
    where fewer than `k` rows differ: what lies farthest from the mean of its cluster moves to one
    that got nothing. Raises `DataError` for more clusters than rows.
    """
    labels = k_means(values, k, restarts=RESTARTS, iterations=ITERATIONS, seed=seed, threads=1)
    for empty in np.setdiff1d(np.arange(k), labels):
        labels[_farthest(values, labels, k)] = empty
    return labels


def _farthest(values: Values, labels: Labels, k: int) -> int:
    """The sample farthest from the mean of its cluster, in which it is not alone."""
    counts = np.bincount(labels, minlength=k)
    sums = np.zeros((k, values.shape[1]))
    np.add.at(sums, labels, values)
    means = sums / np.maximum(counts, 1)[:, None]
    distances = np.square(values - means[labels]).sum(axis=1)
    distances[counts[labels] < 2] = -1
    return int(distances.argmax())


def matched(new: Labels, old: Labels, k: int) -> Labels:
    """The clusters `new` (n,), renamed so that they share as many samples as possible with `old`.

    Both number from 0 to k - 1. Of all renamings the one with the smallest differences of the sets,
    summed over the clusters, is taken (Hungarian assignment, arXiv:1906.05990), so that a cluster
    keeps its name from one clustering to the next. Raises `DataError` for labels outside.
    """
    if len(new) != len(old) or not all(_within(labels, k) for labels in (new, old)):
        raise DataError(f"clusters of the same samples, numbered below {k}, can be matched.")
    shared = np.zeros((k, k), dtype=np.int64)
    np.add.at(shared, (new, old), 1)
    # |A - B| + |B - A| = |A| + |B| - 2 |A and B|, of which only the last depends on the renaming.
    return np.asarray(linear_sum_assignment(shared, maximize=True)[1], dtype=np.int64)[new]


def _within(labels: Labels, k: int) -> bool:
    return not len(labels) or (int(labels.min()) >= 0 and int(labels.max()) < k)


def halved(values: Values, clusters: Labels, classes: Labels, *, seed: int) -> Labels:
    """Every cluster c split in two by k-means: 2 c and 2 c + 1 for every sample (n,).

    So `halved // 2` are the clusters given. A cluster is split again, up to `TRIALS` times, until
    both halves have two classes with two samples each; the last split counts where none is found.
    One sample cannot be split and stays in 2 c. Source: arXiv:2109.04003, its code.
    """
    halves = 2 * clusters
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        if len(members) > 1:
            halves[members] += _split(values[members], classes[members], seed, int(cluster))
    return halves


def _split(values: Values, classes: Labels, seed: int, cluster: int) -> Labels:
    for trial in range(TRIALS):
        side = clusters_of(values, 2, seed=derive_seed(seed, "half", cluster, trial))
        if all(has_pairs(classes[side == number]) for number in (0, 1)):
            break
    return side


def has_pairs(classes: Labels) -> bool:
    """Whether two classes have two samples or more: enough for a positive and a negative pair.

    `classes` is (n,) int64.
    """
    return int((np.unique(classes, return_counts=True)[1] > 1).sum()) > 1


def with_company(classes: Labels, clusters: Labels) -> Flags:
    """Which samples (n,) share their class and their cluster with another sample."""
    both = np.stack([classes, clusters])
    _, place, counts = np.unique(both, axis=1, return_inverse=True, return_counts=True)
    return np.asarray(counts[place.reshape(-1)] > 1)
