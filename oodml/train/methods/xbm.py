"""A loss within the batch and against a memory of past embeddings."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.train.methods.parts.queue import Queue, loss_against
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, MakeObjective, Objective, Training
from oodml.train.registry import Base, Recipe, method


class CrossBatchMemory(Objective):
    """The base loss within the batch, plus `weight` times the same against a queue.

    The queue holds the `memory_size` last embeddings, those of the batch among them. It begins to
    fill after a share `warmup` of the run, when embeddings drift slowly enough to be kept.
    """

    seen: Tensor
    start: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        weight: float,
        memory_size: int,
        warmup: float,
    ) -> None:
        super().__init__(spec, model, criterion)
        batch = spec.training.batch_size
        if memory_size < batch:
            raise UsageError(f"xbm: memory_size={memory_size} is less than a batch of {batch}.")
        self.weight, self.warmup = weight, warmup
        self.queue = Queue(memory_size, model.embedding_dim)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("start", torch.zeros((), dtype=torch.int64))

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Find the step at which the warm-up ends; it is kept in a buffer for a resumed run."""
        self.start.fill_(int(self.warmup * self.total_steps(training)))

    def loss(self, batch: Batch) -> Tensor:
        """The base loss, and after the warm-up that against the queue."""
        encoded = self.encode(batch.inputs)
        value = self.criterion.of(encoded, batch.labels)
        self.seen += 1
        if not self.weight or self.seen <= self.start:
            return value
        vectors = self.criterion.compared(encoded)
        rows = self.queue.push(vectors, batch.labels)
        older = self.queue.without(rows)
        return value + self.weight * loss_against(self.criterion, vectors, batch.labels, *older)


@method(
    "xbm",
    paper="arXiv:1912.06798",
    source="memory_size and warmup chosen here for short runs; the rest arXiv:1912.06798",
    # All that a recipe of the base may set: the settings of two papers are not to be mixed.
    network={
        "batch_size": 64,
        "samples_per_class": 4,
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 5e-4,
        "crop_scale": 0.08,
    },
    recipes={"sop": Recipe("arXiv:1912.06798", {"memory_size": 55000})},
)
def xbm(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("contrastive"),  # noqa: B008 (a frozen record)
    weight: float = 1.0,
    memory_size: int = 1024,
    warmup: float = 0.1,
) -> MakeObjective:
    """XBM: a loss over pairs, also between the batch and a queue of past embeddings.

    `warmup` is a share of the run's steps. A base with a miner mines among batch and queue
    together, which takes (batch + memory_size)^2 numbers.
    """

    criterion = base.criterion(num_classes, embedding_dim)
    if not criterion.takes_references:
        raise UsageError(
            f"xbm: base={base.name} compares no batch with a queue; give a loss over pairs, such "
            "as contrastive."
        )
    return partial(
        CrossBatchMemory,
        criterion=criterion,
        weight=weight,
        memory_size=memory_size,
        warmup=warmup,
    )
