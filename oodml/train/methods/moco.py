"""MoCo: contrast two views of an image with a queue of negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.train.distributed import gathered
from oodml.train.methods.parts.over_pairs import log_sum_exp
from oodml.train.methods.parts.queue import MomentumCopy, Queue
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Objective, Training
from oodml.train.registry import method


@method(
    "moco",
    paper="arXiv:1911.05722",
    source="arXiv:1911.05722; memory_size, there 65536 for a million images, chosen here",
    needs="two views",
    cached_views=4,
)
class MomentumContrast(Objective):
    """MoCo: contrast two views of an image with a queue of negatives.

    First views are queries; a momentum copy of the network encodes the second views as keys. The
    loss of a query q is InfoNCE, -log(e^(q.k/T) / (e^(q.k/T) + sum_j e^(q.k_j/T))), with the key k
    of the same image and the keys k_j of other classes in the queue. Unlike in the paper, keys of
    the query's own class are never negatives; `supervised` makes them positives. The copy is
    updated after every step of the optimiser, and the keys of a batch enter the queue after its
    loss. BatchNorm is not shuffled between processes, so keep it frozen, as runs do by default.
    """

    views = 2

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        momentum: float = 0.999,
        temperature: float = 0.07,
        memory_size: int = 4096,
        supervised: bool = False,
    ) -> None:
        if temperature <= 0:
            raise UsageError(f"moco: temperature={temperature} is not above 0.")
        batch = spec.training.batch_size
        if memory_size < batch:
            raise UsageError(f"moco: memory_size={memory_size} is less than a batch of {batch}.")
        super().__init__(spec, model, AgainstQueue(temperature, supervised))
        self.slow = MomentumCopy(model, momentum)
        self.queue = Queue(memory_size, model.embedding_dim)

    def loss(self, batch: Batch) -> Tensor:
        """The queries' loss against their keys and the queue, into which the keys then go."""
        queries = self.encode(batch.views[0]).embedding
        keys = self.keys(batch.views[1])
        value: Tensor = self.criterion(queries, batch.labels, keys, *self.queue.held())
        self.queue.push(keys, batch.labels)
        return value

    def keys(self, inputs: Tensor) -> Tensor:
        """The momentum copy's unit-length embeddings of inputs, gathered, without gradient."""
        with self.autocast(inputs):
            output = self.slow(inputs)
        return gathered(functional.normalize(output, dim=1))

    def after_step(self, training: Training, batch: Batch) -> None:
        """Update the momentum copy."""
        self.slow.update(self.model)


class AgainstQueue(Criterion):
    """The mean InfoNCE loss of queries against their own keys and older keys of other classes.

    Older keys of the query's class are left out or, if `supervised`, are further positives.
    """

    def __init__(self, temperature: float, supervised: bool = False) -> None:
        super().__init__()
        self.temperature, self.supervised = temperature, supervised

    def forward(
        self, queries: Tensor, labels: Tensor, keys: Tensor, older: Tensor, older_labels: Tensor
    ) -> Tensor:
        """The scalar loss of queries and keys (B, D) and `older` keys (K, D), unit vectors."""
        same = labels[:, None] == older_labels[None, :]
        logits = queries @ older.T / self.temperature
        against = log_sum_exp(logits, ~same)
        losses = functional.softplus(against - (queries * keys).sum(1) / self.temperature)
        if self.supervised:
            rows, columns = same.nonzero(as_tuple=True)
            more = functional.softplus(against[rows] - logits[rows, columns])
            losses = torch.cat([losses, more])
        return losses.mean()
