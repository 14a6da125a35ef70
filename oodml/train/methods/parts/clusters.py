"""Divided training: batches from one cluster of the training samples at a time, then from all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.seeding import derive_seed
from oodml.train.cluster_batches import batches_in_turn, members_by_cluster
from oodml.train.clusters import Labels, Values
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Encoded, Objective
from oodml.train.training import Training


class Divided(Objective):
    """An objective that trains a learner for every cluster, and in the end the whole embedding.

    Every `period` epochs the training samples are clustered. Each batch comes from one cluster and
    goes to `learner_loss`; the last `joint` share of all steps, and all of them as long as there is
    one cluster, take the run's usual batches. An epoch has as many batches as that of any method
    (the code of arXiv:1906.05990 takes as many as its largest cluster needs, times the clusters).
    """

    step: Tensor
    joint_from: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        period: int,
        joint: float,
    ) -> None:
        super().__init__(spec, model, replace(criterion, samplewise=False))
        self.period, self.joint = period, joint
        self.clusters: Labels | None = None
        self.resting: list[nn.Parameter] = []
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("joint_from", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def clustered(self, training: Training, epoch: int) -> Labels | None:
        """The clusters (n,) of the training samples from now on; None for none."""

    @abstractmethod
    def learner_loss(self, encoded: Encoded, labels: Tensor, cluster: int) -> Tensor:
        """The loss of a batch from one cluster."""

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Cluster if it is time; where no cluster can make a batch, all is trained together."""
        batches = self.batches(training).batches
        total = self.total_steps(training)
        self.joint_from.fill_(total - round(self.joint * total))
        if epoch * batches >= int(self.joint_from):
            return
        if epoch % self.period == 0:
            self.clusters = self.clustered(training, epoch)
        if self.clusters is None or not members_by_cluster(training.labels.numpy(), self.clusters):
            self.joint_from.zero_()

    def loader(self, training: Training, epoch: int) -> Iterable[Any]:
        """Batches of the clusters in turn until the joint share begins, then the usual ones."""
        usual = self.batches(training)
        first = epoch * usual.batches
        apart: Iterator[Labels] | None = None
        if self.clusters is not None and self.clusters.any() and first < int(self.joint_from):
            apart = batches_in_turn(
                self.spec,
                training.labels.numpy(),
                self.clusters,
                batches=usual.batches,
                seed=training.seed,
                epoch=epoch,
            )
        for step, index in enumerate(usual.epoch(epoch), first):
            yield index if apart is None or step >= int(self.joint_from) else next(apart)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of the batch's cluster's learner, or of the whole embedding."""
        apart = self.clusters is not None and bool(self.step < self.joint_from)
        self.before_loss(apart)
        encoded = self.encode(batch.inputs)
        if self.clusters is None or not apart:
            return self.criterion(encoded, batch.labels)
        return self.learner_loss(encoded, batch.labels, int(self.clusters[int(batch.index[0])]))

    def before_loss(self, apart: bool) -> None:
        """What a learner does before a loss, such as letting parameters rest."""

    def rest(self, parameters: Iterable[nn.Parameter]) -> None:
        """Leave parameters alone for one step: the optimiser does not see them."""
        self.resting += [p for p in parameters if p.requires_grad]
        for parameter in self.resting:
            parameter.requires_grad_(False)

    def after_step(self, training: Training, batch: Batch) -> None:
        """Count the step, and wake what rested."""
        self.step.fill_(batch.step + 1)
        for parameter in self.resting:
            parameter.requires_grad_(True)
        self.resting = []

    def get_extra_state(self) -> dict[str, Any]:
        """The clusters, which stay until they are made anew."""
        return {"clusters": None if self.clusters is None else torch.from_numpy(self.clusters)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the clusters over."""
        clusters = state["clusters"]
        self.clusters = None if clusters is None else clusters.numpy()


def directions(objective: Objective, training: Training) -> Values:
    """The pooled features (n, C) of the training samples, not augmented, at unit length."""
    return functional.normalize(training.encode(objective, "pooled"), dim=1).numpy()


def clustering_seed(training: Training, epoch: int) -> int:
    """The seed of the clusters that are made before an epoch."""
    return derive_seed(training.seed, "clusters", epoch)
