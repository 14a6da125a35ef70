"""SoftTriple: softmax over classes that have several centres each."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# Keeps the root's slope finite where two centres coincide (github.com/idstcv/SoftTriple).
EPSILON = 1e-5


class SoftTriple(nn.Module):
    """Cross-entropy over scale * (q_c - margin [c = y]) plus a pull between a class's centres.

    q_c is the mean of the cosines to the K centres of a class, weighted by their softmax at
    temperature `gamma`. The pull is tau / (C K (K - 1)) times the sum of the distances between
    centres of one class (arXiv:1909.05235), so that spare centres merge. It is computed class by
    class: pytorch-metric-learning 2.9 compares all C K centres with each other.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        centers_per_class: int,
        scale: float,
        gamma: float,
        margin: float,
        tau: float,
    ) -> None:
        super().__init__()
        self.scale, self.gamma, self.margin, self.tau = scale, gamma, margin, tau
        self.centers = nn.Parameter(torch.empty(centers_per_class, num_classes, embedding_dim))
        nn.init.uniform_(self.centers, -1 / math.sqrt(embedding_dim), 1 / math.sqrt(embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over unit embeddings (B, d) with labels (B,), plus the pull."""
        centers = functional.normalize(self.centers, dim=2)
        similarity = (embeddings @ centers.flatten(0, 1).T).view(-1, *centers.shape[:2])
        classes = (functional.softmax(similarity / self.gamma, dim=1) * similarity).sum(dim=1)
        own = functional.one_hot(labels, centers.shape[1])
        loss = functional.cross_entropy(self.scale * (classes - self.margin * own), labels)
        if not self.tau or len(centers) == 1:
            return loss
        return loss + self.tau * center_spread(centers)


def center_spread(centers: Tensor) -> Tensor:
    """Half the mean distance between two centres of one class; `centers` is (K, C, d), unit."""
    number = len(centers)
    first, second = torch.triu_indices(number, number, offset=1, device=centers.device)
    by_class = centers.transpose(0, 1)
    cosine = (by_class @ by_class.transpose(1, 2))[:, first, second]
    return (2 + EPSILON - 2 * cosine.clamp(max=1)).sqrt().mean() / 2
