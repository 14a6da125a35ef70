"""Losses between samples and proxies, the learned representatives of the classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Proxies(nn.Module):
    def __init__(self, num_classes: int, embedding_dim: int) -> None:
        super().__init__()
        # N(0, 1) / 8, as in ProxyNCA's and ProxyNCA++'s own code.
        self.proxies = nn.Parameter(torch.randn(num_classes, embedding_dim) / 8)

    def squared_distances(self, embeddings: Tensor) -> Tensor:
        """(B, C), between unit embeddings (B, d) and unit proxies."""
        return 2 - 2 * embeddings @ functional.normalize(self.proxies, dim=1).T


class ProxyNCA(_Proxies):
    """-log(exp(-s^2 D_y^2) / sum over c != y of exp(-s^2 D_c^2)), s the length of all vectors.

    The own proxy is left out of the sum, so the loss may be negative (arXiv:1703.07464).
    """

    def __init__(self, num_classes: int, embedding_dim: int, scale: float) -> None:
        super().__init__(num_classes, embedding_dim)
        self.scale = scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over unit embeddings (B, d) with labels (B,)."""
        logits = -(self.scale**2) * self.squared_distances(embeddings)
        own = logits.gather(1, labels[:, None])
        others = logits.scatter(1, labels[:, None], -torch.inf)
        return (others.logsumexp(dim=1) - own[:, 0]).mean()


class ProxyNCAPlusPlus(_Proxies):
    """Cross-entropy over -D_c^2 / T: the own proxy is one of the choices (arXiv:2004.01113).

    As a cross-entropy it stays exact where pytorch-metric-learning's form, a probability under a
    logarithm, underflows and drops the hardest samples.
    """

    def __init__(self, num_classes: int, embedding_dim: int, temperature: float) -> None:
        super().__init__(num_classes, embedding_dim)
        self.temperature = temperature

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over unit embeddings (B, d) with labels (B,)."""
        return functional.cross_entropy(
            -self.squared_distances(embeddings) / self.temperature, labels
        )
