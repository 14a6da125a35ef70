"""XBM: cross-batch memory, a loss over pairs against a queue of past embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.train.methods.parts.queue import Queue
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Objective, Training
from oodml.train.registry import Base, method

Tuples = tuple[Tensor, ...]


@method(
    "xbm",
    paper="arXiv:1912.06798",
    source="memory_size and warmup chosen here for short runs; the rest arXiv:1912.06798",
)
class CrossBatchMemory(Objective):
    """XBM: a loss over pairs within the batch and against a memory of past embeddings.

    The base loss within the batch plus `weight` times the same loss against a queue of the last
    `memory_size` embeddings, those of the batch included. The queue starts to fill after a share
    `warmup` of the run's steps, when embeddings drift slowly enough to be kept. A base with a miner
    mines in batch and queue together, which takes (batch + memory_size)^2 values of memory.
    """

    start: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = Base("contrastive"),  # noqa: B008 (a frozen record)
        weight: float = 1.0,
        memory_size: int = 1024,
        warmup: float = 0.1,
    ) -> None:
        criterion = base.criterion(num_classes, model.embedding_dim)
        if not criterion.takes_references:
            raise UsageError(
                f"xbm: base={base.name} compares no batch with a queue; give a loss over pairs, "
                "such as contrastive."
            )
        super().__init__(spec, model, criterion)
        batch = spec.training.batch_size
        if memory_size < batch:
            raise UsageError(f"xbm: memory_size={memory_size} is less than a batch of {batch}.")
        self.weight, self.warmup = weight, warmup
        self.queue = Queue(memory_size, model.embedding_dim)
        self.register_buffer("start", torch.zeros((), dtype=torch.int64))

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Compute the step at which the warm-up ends, in a buffer for resumed runs."""
        self.start.fill_(int(self.warmup * self.total_steps(training)))

    def loss(self, batch: Batch) -> Tensor:
        """The base loss, after the warm-up plus the weighted loss against the queue."""
        encoded = self.encode(batch.inputs)
        value = self.criterion.of(encoded, batch.labels)
        if not self.weight or batch.step < self.start:
            return value
        vectors = self.criterion.compared(encoded)
        rows = self.queue.push(vectors, batch.labels)
        older = self.queue.without(rows)
        return value + self.weight * loss_against(self.criterion, vectors, batch.labels, *older)


def loss_against(
    criterion: Criterion, embeddings: Tensor, labels: Tensor, older: Tensor, older_labels: Tensor
) -> Tensor:
    """A criterion between a batch's anchors and references: the batch, then `older` ones.

    References get no gradient. No sample is paired with its own copy: the miner is given the batch
    once, followed by the older embeddings, and of its tuples those with an anchor in the batch are
    kept. Embeddings are (B, d), `older` (m, d), labels (B,) and (m,); the loss is a scalar.
    """
    references = torch.cat([embeddings.detach(), older])
    reference_labels = torch.cat([labels, older_labels])
    if criterion.miner is None:
        tuples = _all_pairs(labels, reference_labels)
    else:
        unit = functional.normalize(references, dim=1)
        tuples = _anchored(criterion.miner(unit, reference_labels), len(labels))
    value: Tensor = criterion(embeddings, labels, tuples, references, reference_labels)
    return value


def _all_pairs(labels: Tensor, reference_labels: Tensor) -> Tuples:
    same = labels[:, None] == reference_labels[None, :]
    negatives = (~same).nonzero(as_tuple=True)
    own = torch.arange(len(labels), device=labels.device)
    same[own, own] = False
    return (*same.nonzero(as_tuple=True), *negatives)


def _anchored(tuples: Tuples, batch_size: int) -> Tuples:
    """The triplets (3 index arrays) or pairs (2 and 2) whose anchor lies in the batch."""
    parts = [tuples] if len(tuples) == 3 else [tuples[:2], tuples[2:]]
    return tuple(each[part[0] < batch_size] for part in parts for each in part)
