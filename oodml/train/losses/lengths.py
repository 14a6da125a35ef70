"""A loss plus the lengths of the outputs that it is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WithLengths(nn.Module):
    """A loss plus a weight times the mean length of the embeddings."""

    def __init__(self, loss: nn.Module, weight: float) -> None:
        super().__init__()
        self.loss = loss
        self.weight = weight

    def forward(self, embeddings: Tensor, labels: Tensor, *tuples: object) -> Tensor:
        """The scalar loss of embeddings (B, D) of any length."""
        value: Tensor = self.loss(embeddings, labels, *tuples)
        length: Tensor = torch.linalg.vector_norm(embeddings, dim=1).mean()
        return value + self.weight * length
