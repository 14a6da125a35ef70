"""MIC: mining interclass characteristics, a second head that learns features classes share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.seeding import derive_seed, generator
from oodml.train.batches import BalancedBatches
from oodml.train.distributed import gathered
from oodml.train.methods.parts.clusters import clusters_of, matched
from oodml.train.methods.parts.several_heads import TwoHeads
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Encoded, Training
from oodml.train.registry import Base, method

Indices = npt.NDArray[np.int64]
# First-stage maps have more than this share of the input's side; in residual networks it is 1/4.
STAGE_SHARE = 1 / 8
GRID = 2


@method(
    "mic",
    paper="arXiv:1909.11574",
    source="arXiv:1909.11574 and its code, clusters and update_every chosen here for short runs",
    heads="class + auxiliary; class head retrieves",
    needs="clusters of the training data, a second batch",
    samples_per_class=4,
)
class InterclassMining(TwoHeads):
    """MIC: a second head learns features that classes share; an adversary separates the two.

    The base loss is applied to both heads, by class to the first and by cluster to the second.
    `decorrelation` is the adversary's weight for 128 dimensions and is scaled by (dimension /
    128)^2. The first clustering is of the features of the network's first stage minus their class
    means, later ones are of the second embedding; it is repeated every `update_every` epochs. There
    are fewer than `clusters` where they would have fewer than `samples_per_cluster` samples on
    average. A step has an auxiliary batch, balanced by cluster with `samples_per_cluster` samples
    each, with probability `auxiliary`; each of its samples is replaced by another one of its
    cluster with probability `substitution`.

    Deviations: both batches of a step are one update, the published code makes two. On cached
    features, which have no first stage, the first clustering is of the features minus class means.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = Base("margin"),  # noqa: B008 (a frozen record)
        clusters: int = 30,
        decorrelation: float = 250.0,
        auxiliary: float = 0.8,
        update_every: int = 1,
        samples_per_cluster: int = 4,
        substitution: float = 0.2,
    ) -> None:
        if clusters < 2 or update_every < 1 or samples_per_cluster < 1:
            raise UsageError(
                f"mic: clusters={clusters}, update_every={update_every}, "
                f"samples_per_cluster={samples_per_cluster}: give at least 2, 1 and 1."
            )
        own, other = (
            base.criterion(number, model.embedding_dim) for number in (num_classes, clusters)
        )
        super().__init__(spec, model, criterion=own, other=other, decorrelation=decorrelation)
        self.most_clusters, self.samples_per_cluster = clusters, samples_per_cluster
        self.auxiliary, self.substitution = auxiliary, substitution
        self.update_every = update_every
        self.clusters = torch.empty(0, dtype=torch.int64)
        self.class_rows = 0

    def get_extra_state(self) -> Tensor:
        """The cluster of every training sample; no buffer, as its length is unknown at first."""
        return self.clusters

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the clusters from a checkpoint."""
        self.clusters = state.cpu()

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Cluster the training samples every `update_every` epochs."""
        if self.auxiliary and epoch % self.update_every == 0:
            self.clusters = self._clustered(training, epoch)

    def _clustered(self, training: Training, epoch: int) -> Tensor:
        samples = len(training.labels)
        number = max(min(self.most_clusters, samples // self.samples_per_cluster), 2)
        first = not len(self.clusters)
        function = self._first_stage if first else self._second_embedding
        rows = np.arange(samples)
        values = training.encode(self, function, rows)
        if first:
            values = minus_class_means(values, training.labels)
        seed = derive_seed(training.seed, "clusters", epoch)
        found = clusters_of(values.numpy(), number, seed=seed)
        if not first:
            # The loss has one boundary per cluster, so clusters keep their numbers.
            found = matched(found, self.clusters.numpy(), number)
        return torch.from_numpy(found)

    def _first_stage(self, inputs: Tensor) -> Tensor:
        return stage_features(self.model.trunk, inputs)

    def _second_embedding(self, inputs: Tensor) -> Tensor:
        pooled = self.model.trunk(inputs).float()
        return Encoded.of(pooled, self.second(pooled)).embedding

    def loader(self, training: Training, epoch: int) -> Iterable[Indices]:
        """Class-balanced batches, most of them followed by an auxiliary batch."""
        self.class_rows = len(next(iter(super().loader(training, epoch))))
        batches = super().loader(training, epoch)
        return self._with_auxiliary(batches, training, epoch) if len(self.clusters) else batches

    def _with_auxiliary(
        self, batches: Iterable[Indices], training: Training, epoch: int
    ) -> Iterator[Indices]:
        clusters = self.clusters.numpy()
        members = [np.flatnonzero(clusters == each) for each in range(clusters.max() + 1)]
        random = generator(training.seed, "auxiliary", epoch)
        auxiliary = BalancedBatches(
            clusters,
            self.spec.training.batch_size,
            self.samples_per_cluster,
            seed=derive_seed(training.seed, "auxiliary batches"),
            batches=self.batches(training).batches,
        ).epoch(epoch)
        for own, drawn in zip(batches, auxiliary, strict=True):
            replaced = random.random(len(drawn)) < self.substitution
            drawn[replaced] = [random.choice(members[clusters[row]]) for row in drawn[replaced]]
            joined = random.random() < self.auxiliary
            yield np.concatenate([own, drawn]) if joined else own

    def loss(self, batch: Batch) -> Tensor:
        """The losses of the class batch and of the auxiliary batch, each plus the adversary's."""
        encoded = self.encode(batch.inputs)
        second = self.second_of(encoded)
        border = self.class_rows or len(batch.labels)
        parts = slice(0, border), slice(border, None)
        value = self.criterion.of(rows_of(encoded, parts[0]), batch.labels[parts[0]])
        value = value + self.shared_content(rows_of(encoded, parts[0]), [rows_of(second, parts[0])])
        if border >= len(batch.labels):
            return value
        clusters = self.clusters.to(batch.index.device)[gathered(batch.index)]
        value = value + self.others[0].of(rows_of(second, parts[1]), clusters[parts[1]])
        return value + self.shared_content(rows_of(encoded, parts[1]), [rows_of(second, parts[1])])


def rows_of(encoded: Encoded, rows: slice) -> Encoded:
    """The encoded batch reduced to some of its rows."""
    return Encoded(encoded.pooled[rows], encoded.output[rows], encoded.embedding[rows])


def stage_features(trunk: nn.Module, inputs: Tensor) -> Tensor:
    """Unit-length features (B, D) of a network's first stage, for inputs (B, ...), float32.

    The stage's feature map is the last one whose side is more than an eighth of the image's; it is
    average-pooled to 2 x 2. Where there is none (transformers, cached features) the trunk's own
    features are returned.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and _is_large(output, inputs):
            seen[:] = [output]

    handles = [module.register_forward_hook(keep) for module in trunk.modules()]
    try:
        pooled: Tensor = trunk(inputs)
    finally:
        for handle in handles:
            handle.remove()
    found = functional.adaptive_avg_pool2d(seen[0], GRID).flatten(1) if seen else pooled
    return functional.normalize(found.float(), dim=1)


def minus_class_means(values: Tensor, labels: Tensor) -> Tensor:
    """Rows (n, D) minus the mean of their class; `labels` (n,) count the classes from 0."""
    classes = int(labels.max()) + 1
    sums = torch.zeros(classes, values.shape[1], dtype=torch.float64).index_add_(
        0, labels, values.double()
    )
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return values - (sums / counts[:, None]).float()[labels]


def _is_large(output: Tensor, inputs: Tensor) -> bool:
    return inputs.ndim == 4 and output.shape[-1] > STAGE_SHARE * inputs.shape[-1]
