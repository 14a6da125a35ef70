"""Characteristics that classes share, learned from clusters of what class means leave over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.seeding import derive_seed, generator
from oodml.train.batches import BalancedBatches
from oodml.train.clusters import clusters_of, matched
from oodml.train.distributed import gathered
from oodml.train.methods.parts.several_heads import TwoHeads, of_output
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Encoded
from oodml.train.stage import minus_class_means
from oodml.train.training import Training, encoded_rows

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Surrogates:
    """How surrogate labels are made and drawn: so many `clusters`, made anew every so many epochs.

    There are fewer clusters where they would have less than `samples_per_cluster` samples on the
    average. A step has an auxiliary batch with probability `share`, with so many samples a
    cluster; each is replaced by another one of its cluster with probability `substitution`.
    """

    clusters: int
    share: float
    update_every: int
    samples_per_cluster: int
    substitution: float

    def __post_init__(self) -> None:
        if self.clusters < 2 or self.update_every < 1 or self.samples_per_cluster < 1:
            raise UsageError(
                f"mic: clusters={self.clusters}, update_every={self.update_every}, "
                f"samples_per_cluster={self.samples_per_cluster}: give at least 2, 1 and 1."
            )

    def number(self, samples: int) -> int:
        """How many clusters so many samples are divided into, at least 2."""
        return max(min(self.clusters, samples // self.samples_per_cluster), 2)


class InterclassMining(TwoHeads):
    """A head for classes and one for clusters, driven apart; class batches and cluster batches.

    The first clusters are those of the network's first stage, minus the means of the classes;
    later ones those of the second embedding itself. A step's loss is the class loss of its class
    batch plus the cluster loss of its auxiliary batch, plus the adversary's of each.
    """

    class_rows: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        other: Criterion,
        decorrelation: float,
        surrogates: Surrogates,
    ) -> None:
        super().__init__(spec, model, criterion=criterion, other=other, decorrelation=decorrelation)
        self.surrogates = surrogates
        self.clusters = torch.empty(0, dtype=torch.int64)
        self.register_buffer("class_rows", torch.zeros((), dtype=torch.int64))

    def get_extra_state(self) -> Tensor:
        """The cluster of every training sample; how many there are is not known from the start."""
        return self.clusters

    def set_extra_state(self, state: Tensor) -> None:
        self.clusters = state.cpu()

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Cluster the training samples, if it is time."""
        self.class_rows.fill_(len(next(iter(self.batches(training).epoch(epoch)))))
        if self.surrogates.share and epoch % self.surrogates.update_every == 0:
            self.clusters = self._clustered(training, epoch)

    def _clustered(self, training: Training, epoch: int) -> Tensor:
        samples = len(training.labels)
        number = self.surrogates.number(samples)
        if len(self.clusters):
            rows = np.arange(samples)
            values = encoded_rows(self, training.samples, rows, self._second, training.device)
        else:
            values = minus_class_means(training.encode(self, "stage"), training.labels)
        seed = derive_seed(training.seed, "clusters", epoch)
        found = clusters_of(values.numpy(), number, seed=seed)
        if len(self.clusters):
            # A boundary belongs to a cluster, which therefore keeps its number.
            found = matched(found, self.clusters.numpy(), number)
        return torch.from_numpy(found)

    def _second(self, inputs: Tensor) -> Tensor:
        pooled = self.model.trunk(inputs).float()
        return of_output(pooled, self.second(pooled)).embedding

    def loader(self, training: Training, epoch: int) -> Iterable[Indices]:
        """Class batches, most of them with an auxiliary batch behind."""
        batches = super().loader(training, epoch)
        return self._with_auxiliary(batches, training, epoch) if len(self.clusters) else batches

    def _with_auxiliary(
        self, batches: Iterable[Indices], training: Training, epoch: int
    ) -> Iterator[Indices]:
        surrogates, clusters = self.surrogates, self.clusters.numpy()
        members = [np.flatnonzero(clusters == each) for each in range(clusters.max() + 1)]
        random = generator(training.seed, "auxiliary", epoch)
        auxiliary = BalancedBatches(
            clusters,
            self.spec.batch_size,
            surrogates.samples_per_cluster,
            seed=derive_seed(training.seed, "auxiliary batches"),
            batches=self.batches(training).batches,
        ).epoch(epoch)
        for own, drawn in zip(batches, auxiliary, strict=True):
            replaced = random.random(len(drawn)) < surrogates.substitution
            drawn[replaced] = [random.choice(members[clusters[row]]) for row in drawn[replaced]]
            joined = random.random() < surrogates.share
            yield np.concatenate([own, drawn]) if joined else own

    def loss(self, batch: Batch) -> Tensor:
        """The losses of both batches; without an auxiliary one that of the class batch."""
        encoded = self.encode(batch.inputs)
        second = self.second_of(encoded)
        border = int(self.class_rows) or len(batch.labels)
        parts = slice(0, border), slice(border, None)
        value = self.criterion(cut(encoded, parts[0]), batch.labels[parts[0]])
        value = value + self.shared_content(cut(encoded, parts[0]), [cut(second, parts[0])])
        if border >= len(batch.labels):
            return value
        clusters = self.clusters.to(batch.index.device)[gathered(batch.index)]
        value = value + self.others[0](cut(second, parts[1]), clusters[parts[1]])
        return value + self.shared_content(cut(encoded, parts[1]), [cut(second, parts[1])])


def cut(encoded: Encoded, rows: slice) -> Encoded:
    """Some rows of what has been encoded."""
    return Encoded(encoded.pooled[rows], encoded.output[rows], encoded.embedding[rows])
