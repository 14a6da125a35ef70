"""The manifold similarity loss: nearness by random walks over a batch and its proxies."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# exp(cosine / this) is the weight of a step of the walk, as in pytorch-metric-learning.
_WIDTH = 0.5


class ManifoldSimilarity(nn.Module):
    """Every sample nearer, by random walks, to its own proxy than to the others.

    A proxy stands for a random group of classes. pytorch-metric-learning takes the group of every
    sample in the place of tuples, or draws one for every sample anew, which no label has a part
    in; given the groups, its values are these.
    """

    groups: Tensor

    def __init__(
        self,
        classes: int,
        dimension: int,
        *,
        proxies: int,
        context: float,
        walk: float,
        margin: float,
    ) -> None:
        super().__init__()
        count = min(proxies, classes)
        self.proxies = nn.Parameter(torch.randn(count, dimension))
        self.register_buffer("groups", torch.randperm(classes) % count)
        self.context = context
        self.walk = walk
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The scalar loss of unit-length embeddings (B, D)."""
        nodes = functional.normalize(torch.cat([embeddings, self.proxies]), dim=1)
        samples, groups = len(embeddings), self.groups[labels]
        reached = walked(nodes, self.walk)
        walks = functional.normalize(reached, dim=1)
        intrinsic = self._softmax(reached[:samples, samples:], groups)
        contextual = self._softmax(walks[:samples] @ walks[samples:].T, groups)
        return intrinsic + self.context * contextual

    def _softmax(self, nearness: Tensor, groups: Tensor) -> Tensor:
        # Proxies that are farther than the own one by the margin have no part in the sum.
        excess = nearness - nearness.gather(1, groups[:, None]) + self.margin
        others = torch.ones_like(excess, dtype=torch.bool).scatter_(1, groups[:, None], False)
        violating = torch.where(others & (excess >= 0), excess, -torch.inf)
        return violating.exp().sum(1).log1p().mean()


def walked(nodes: Tensor, walk: float) -> Tensor:
    """Where endless random walks from unit vectors (n, D) are found, (n, n); `walk` goes on."""
    identity = torch.eye(len(nodes), dtype=nodes.dtype, device=nodes.device)
    steps = ((nodes @ nodes.T).clamp(min=0) / _WIDTH).exp() * (1 - identity)
    scale = steps.sum(1).rsqrt()
    back = identity - walk * scale[:, None] * steps * scale[None, :]
    found: Tensor = torch.linalg.inv(back)
    return (1 - walk) * found
