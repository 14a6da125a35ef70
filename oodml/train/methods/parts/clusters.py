"""Clustering of the training samples, and training on one cluster per batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import DataError, UsageError
from oodml.eval.retrieval.clustering import k_means
from oodml.runs.spec import RunSpec, TrainingSpec
from oodml.seeding import derive_seed
from oodml.train.batches import Batches, batches_for
from oodml.train.distributed import world_size
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Encoded, Objective, Training

Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]

# Training clusters often, so it takes fewer restarts than evaluation.
RESTARTS, ITERATIONS = 3, 20


class DividedTraining(Objective):
    """An objective that trains one learner per cluster, and finally the whole embedding.

    Every `period` epochs the training samples are clustered. Each batch comes from one cluster and
    is given to `learner_loss`; the last `joint` share of all steps, and all steps while there is
    one cluster, take the run's usual batches. An epoch has as many batches as that of any other
    method (the code of arXiv:1906.05990 takes as many as its largest cluster needs, times the
    clusters). Raises `UsageError` for a period or a share out of range.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        period: int,
        joint: float,
    ) -> None:
        super().__init__(spec, model, criterion)
        if period < 1:
            raise UsageError(f"{spec.method.name}: period={period}: give 1 or more.")
        if not 0 <= joint <= 1:
            raise UsageError(f"{spec.method.name}: joint={joint} is no share: give 0 to 1.")
        self.period, self.joint = period, joint
        self.clusters: Labels | None = None
        self.joint_from = 0
        self.frozen: list[nn.Parameter] = []

    @abstractmethod
    def clustered(self, training: Training, epoch: int) -> Labels | None:
        """The clusters (n,) of the training samples from this epoch on, or None."""

    @abstractmethod
    def learner_loss(self, encoded: Encoded, labels: Tensor, cluster: int) -> Tensor:
        """The loss of a batch from one cluster."""

    def directions(self, training: Training) -> Values:
        """The pooled features (n, C) of the training samples, not augmented, at unit length."""
        return functional.normalize(training.encode(self, "pooled"), dim=1).numpy()

    def before_loss(self, step: int, apart: bool) -> None:
        """Hook before a loss, of a single cluster if `apart`; may `freeze` parameters."""

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Cluster the training samples every `period` epochs."""
        if epoch % self.period == 0 and self._first_step(training, epoch) < self._joint(training):
            self.clusters = self.clustered(training, epoch)

    def loader(self, training: Training, epoch: int) -> Iterable[Any]:
        """Batches of the clusters in turn until the joint share begins, then the usual ones.

        Where no cluster can fill a batch, all steps are joint.
        """
        labels = training.labels.numpy()
        able = self.clusters is not None and bool(members_by_cluster(labels, self.clusters))
        self.joint_from = self._joint(training) if able else 0
        return self._drawn(training, epoch)

    def _drawn(self, training: Training, epoch: int) -> Iterator[Any]:
        usual, first = self.batches(training), self._first_step(training, epoch)
        apart: Iterator[Labels] | None = None
        if self.clusters is not None and self.clusters.any() and first < self.joint_from:
            apart = batches_in_turn(
                self.spec.training,
                training.labels.numpy(),
                self.clusters,
                batches=usual.batches,
                seed=training.seed,
                epoch=epoch,
            )
        for step, index in enumerate(usual.epoch(epoch), first):
            yield index if apart is None or step >= self.joint_from else next(apart)

    def _first_step(self, training: Training, epoch: int) -> int:
        return epoch * self.batches(training).batches

    def _joint(self, training: Training) -> int:
        """The first step of the joint share."""
        total = self.total_steps(training)
        return total - round(self.joint * total)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of the learner of the batch's cluster, or of the whole embedding."""
        apart = self.clusters is not None and batch.step < self.joint_from
        self.before_loss(batch.step, apart)
        encoded = self.encode(batch.inputs)
        if self.clusters is None or not apart:
            return self.criterion.of(encoded, batch.labels)
        return self.learner_loss(encoded, batch.labels, int(self.clusters[int(batch.index[0])]))

    def freeze(self, parameters: Iterable[nn.Parameter]) -> None:
        """Freeze parameters for one step: the optimiser does not see them."""
        self.frozen += [p for p in parameters if p.requires_grad]
        for parameter in self.frozen:
            parameter.requires_grad_(False)

    def after_step(self, training: Training, batch: Batch) -> None:
        """Unfreeze what was frozen for this step."""
        for parameter in self.frozen:
            parameter.requires_grad_(True)
        self.frozen = []

    def get_extra_state(self) -> dict[str, Any]:
        """The current clusters, for the checkpoint."""
        return {"clusters": None if self.clusters is None else torch.from_numpy(self.clusters)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the clusters from a checkpoint."""
        clusters = state["clusters"]
        self.clusters = None if clusters is None else clusters.numpy()


def members_by_cluster(classes: Labels, clusters: Labels) -> list[Labels]:
    """The samples of every cluster that can fill a batch, in the order of the clusters.

    Samples without another one of their class in their cluster are left out; a cluster then needs
    two classes. `classes` and `clusters` are (n,) int64.
    """
    kept = with_company(classes, clusters)
    members = [np.flatnonzero(kept & (clusters == each)) for each in np.unique(clusters)]
    return [each for each in members if has_pairs(classes[each])]


def batches_in_turn(
    settings: TrainingSpec,
    classes: Labels,
    clusters: Labels,
    *,
    batches: int,
    seed: int,
    epoch: int,
) -> Iterator[Labels]:
    """The index arrays of an epoch, from one cluster after the other, without end.

    `settings` are the run's. A cluster with fewer classes than a batch needs gives more samples of
    each, up to their average number; if that is not enough, its batches are smaller. Where several
    processes train together, the last samples of a batch that does not divide evenly are left out.
    `classes` and `clusters` are (n,) int64.
    """
    members = members_by_cluster(classes, clusters)
    sources = [
        (each, _batches(settings, classes[each], batches, derive_seed(seed, "cluster", place)))
        for place, each in enumerate(members)
    ]
    turns = cycle([(each, source.epoch(epoch)) for each, source in sources])
    for each, drawn in turns:
        index = each[next(drawn)]
        yield index[: len(index) // world_size() * world_size()]


def clusters_of(values: Values, k: int, *, seed: int) -> Labels:
    """The k-means cluster (n,) int64, from 0, of every row of `values` (n, d) float32.

    Rows are not normalised. The result depends on values and seed only, not on the number of
    threads. No cluster is empty, even where fewer than `k` rows differ: an empty cluster gets the
    sample that lies farthest from its cluster's mean. Raises `DataError` for more clusters than
    rows.
    """
    labels = k_means(values, k, restarts=RESTARTS, iterations=ITERATIONS, seed=seed, threads=1)
    for empty in np.setdiff1d(np.arange(k), labels):
        labels[_farthest(values, labels, k)] = empty
    return labels


def matched(new: Labels, old: Labels, k: int) -> Labels:
    """The clusters `new` (n,), renumbered to share as many samples as possible with `old`.

    Both number from 0 to k - 1. The renumbering minimises the symmetric differences of the sets,
    summed over the clusters (Hungarian assignment, arXiv:1906.05990), so that a cluster keeps its
    number from one clustering to the next. Raises `DataError` for labels out of range.
    """
    if len(new) != len(old) or not all(_within(labels, k) for labels in (new, old)):
        raise DataError(
            f"{len(new)} and {len(old)} cluster numbers: give those of the same samples, from 0 to "
            f"{k - 1}."
        )
    shared = np.zeros((k, k), dtype=np.int64)
    np.add.at(shared, (new, old), 1)
    # |A - B| + |B - A| = |A| + |B| - 2 |A and B|, of which only the last depends on the renaming.
    return np.asarray(linear_sum_assignment(shared, maximize=True)[1], dtype=np.int64)[new]


def has_pairs(classes: Labels) -> bool:
    """Whether at least two classes have at least two samples, for a positive and a negative pair.

    `classes` is (n,) int64.
    """
    return int((np.unique(classes, return_counts=True)[1] > 1).sum()) > 1


def with_company(classes: Labels, clusters: Labels) -> Flags:
    """Which samples (n,) share both class and cluster with another sample."""
    both = np.stack([classes, clusters])
    _, place, counts = np.unique(both, axis=1, return_inverse=True, return_counts=True)
    return np.asarray(counts[place.reshape(-1)] > 1)


def _batches(settings: TrainingSpec, classes: Labels, batches: int, seed: int) -> Batches:
    fill = min(settings.batch_size, len(classes)) // len(np.unique(classes))
    # A multiple, so that batches that divide evenly among processes still do.
    times = max(1, fill // settings.samples_per_class)
    own = replace(
        settings, samples_per_class=times * settings.samples_per_class, epoch_steps=batches
    )
    return batches_for(own, classes, seed=seed)


def _farthest(values: Values, labels: Labels, k: int) -> int:
    """The sample farthest from the mean of its cluster, among clusters of two or more."""
    counts = np.bincount(labels, minlength=k)
    sums = np.zeros((k, values.shape[1]))
    np.add.at(sums, labels, values)
    means = sums / np.maximum(counts, 1)[:, None]
    distances = np.square(values - means[labels]).sum(axis=1)
    distances[counts[labels] < 2] = -1
    return int(distances.argmax())


def _within(labels: Labels, k: int) -> bool:
    return not len(labels) or (int(labels.min()) >= 0 and int(labels.max()) < k)
