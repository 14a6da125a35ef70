"""Embedding models: a backbone or standardised features, then a linear head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Features (B, C) minus the training mean, over the training standard deviation."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        deviation, mean = torch.std_mean(features, dim=0, correction=0)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(deviation > 0, deviation, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale


class EmbeddingModel(nn.Module):
    """`trunk` (B, ...) -> (B, dimension), then a linear `head` -> (B, embedding_dim).

    What comes out has the length that the head gives it; objectives bring it to unit length.
    """

    def __init__(self, trunk: nn.Module, dimension: int, embedding_dim: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.embedding_dim = embedding_dim
        self.trunk = trunk
        self.head = nn.Linear(dimension, embedding_dim)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.head(self.trunk(inputs))
        return output
