"""Losses of a plain linear classifier over the training classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SoftmaxClassifier(nn.Module):
    """Cross-entropy of inner products with one weight vector a class."""

    def __init__(self, classes: int, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Linear(dimension, classes, bias=False).weight

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of outputs (B, D) of any length."""
        return functional.cross_entropy(outputs @ self.weight.T, labels)


class CosineRegression(nn.Module):
    """Mean squared error of the cosines to one weight vector a class, 1 for the own and 0 else.

    pytorch-metric-learning 2.9 rescales its weights outside of the optimiser at every step, and
    yields NaN for an embedding of length 0; its values are these.
    """

    def __init__(self, classes: int, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dimension).uniform_(-1, 1))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of unit-length embeddings (B, D)."""
        cosines = embeddings @ functional.normalize(self.weight, dim=1).T
        own = functional.one_hot(labels, len(self.weight)).to(cosines.dtype)
        return functional.mse_loss(cosines, own)
