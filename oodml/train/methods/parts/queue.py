"""A queue of past embeddings, and a loss between a batch and that queue."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.objective import Criterion

Tuples = tuple[Tensor, ...]


class Queue(nn.Module):
    """The last `size` embeddings and their labels, first in, first out.

    All of its state is in buffers, so that a resumed run finds the queue as it was.
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
        """Put a batch in the place of the oldest entries; the rows (B,) where it stands now.

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
        """The embeddings (K, d) and labels (K,) that have been pushed and not yet pushed out.

        Copies: a loss may be taken from them and go backward after the next push.
        """
        count = min(int(self.pushed), len(self.labels))
        return self.embeddings[:count].clone(), self.labels[:count].clone()

    def without(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings (K, d) and labels (K,) that have been pushed, but for some rows."""
        kept = torch.arange(len(self.labels), device=rows.device) < self.pushed
        kept[rows] = False
        return self.embeddings[kept], self.labels[kept]


def loss_against(
    criterion: Criterion, embeddings: Tensor, labels: Tensor, older: Tensor, older_labels: Tensor
) -> Tensor:
    """A criterion between anchors of a batch and references: the batch itself, then `older` ones.

    References are constants. No sample makes a pair with its own copy among them: the miner sees
    the batch once, beside what is older, and of its tuples those with an anchor in the batch stay.
    Embeddings are (B, d), `older` (m, d), labels (B,) and (m,); the loss is a scalar.
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
