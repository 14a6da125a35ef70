"""A queue of past embeddings, and a momentum copy of a network."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from oodml.errors import UsageError


class Queue(nn.Module):
    """The last `size` embeddings and their labels, first in, first out.

    All state is in buffers, so that a resumed run continues with the same queue.
    """

    embeddings: Tensor
    labels: Tensor
    pushed: Tensor

    def __init__(self, size: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(size, dimension))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Replace the oldest entries by a batch; the rows (B,) of the queue that now hold it.

        Raises `ValueError` for a batch that is larger than the queue.
        """
        size = len(self.labels)
        if len(labels) > size:
            raise ValueError(f"a batch of {len(labels)} does not fit into a queue of {size}")
        rows = (self.pushed + torch.arange(len(labels), device=labels.device)) % size
        self.embeddings[rows] = embeddings.detach()
        self.labels[rows] = labels
        self.pushed += len(labels)
        return rows

    def held(self) -> tuple[Tensor, Tensor]:
        """The embeddings (K, d) and labels (K,) that the queue holds so far.

        Copies, so that a loss on them may be back-propagated after the next push.
        """
        count = min(int(self.pushed), len(self.labels))
        return self.embeddings[:count].clone(), self.labels[:count].clone()

    def without(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings (K, d) and labels (K,) in the queue, except for some rows."""
        kept = torch.arange(len(self.labels), device=rows.device) < self.pushed
        kept[rows] = False
        return self.embeddings[kept], self.labels[kept]


class MomentumCopy(nn.Module):
    """A copy of `model` whose parameters are an exponential moving average of the model's.

    Every `update` moves them by p = momentum * p + (1 - momentum) * model's p, and copies the
    buffers, such as BatchNorm's statistics (arXiv:1911.05722). Its parameters take no gradient and
    belong to no optimiser; they and its buffers are saved with the module that holds the copy.
    Raises `UsageError` for a momentum outside 0 to 1.
    """

    def __init__(self, model: nn.Module, momentum: float) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise UsageError(f"momentum={momentum} is out of range; give a number from 0 to 1.")
        self.momentum = momentum
        self.model = deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the copy towards `model`; momentum 1 leaves it unchanged, 0 makes it equal."""
        for parameter, given in zip(self.model.parameters(), model.parameters(), strict=True):
            parameter.lerp_(given, 1 - self.momentum)
        for buffer, wanted in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(wanted)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """The copy's output for inputs (B, ...), float32, without gradient."""
        output: Tensor = self.model(inputs)
        return output.float()
