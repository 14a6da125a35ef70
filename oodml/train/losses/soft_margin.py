"""The triplet loss whose margin is the distribution of the triplets seen so far."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodml.train.methods.parts.over_pairs import distances, mean_where, pairs_of


class DynamicSoftMargin(nn.Module):
    """Mean of F(d) d, d = D_ap - D_an and F its running distribution (10.1109/ICCV.2019.00306).

    One triplet for every positive pair, with the negative closest to either of the two. F is a
    histogram on [-2, 2], the range of d on the unit sphere, and a buffer: a resumed run goes on
    with it.
    """

    histogram: Tensor

    def __init__(self, bins: int, momentum: float) -> None:
        super().__init__()
        self.bins = bins
        self.momentum = momentum
        self.register_buffer("histogram", torch.zeros(bins + 1))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The scalar loss of unit-length embeddings (B, D)."""
        matrix = distances(embeddings, embeddings)
        positive, negative = pairs_of(labels)
        closest = torch.where(negative, matrix, torch.inf).amin(1)
        closest = torch.minimum(closest[:, None], closest[None, :])
        chosen = positive & closest.isfinite()
        differences = matrix - torch.where(chosen, closest, 0.0)
        weights = self._weights(differences.detach(), chosen)
        return mean_where(weights * differences, chosen)

    def _weights(self, differences: Tensor, chosen: Tensor) -> Tensor:
        position = ((differences + 2) * (self.bins / 4)).clamp(0, self.bins)
        index = position.floor().clamp(max=self.bins - 1).long()
        if self.training and chosen.any():
            self._observe(index[chosen], (position - index)[chosen])
        distribution: Tensor = self.histogram.cumsum(0)
        return distribution[index]

    def _observe(self, index: Tensor, share: Tensor) -> None:
        seen = torch.zeros_like(self.histogram).index_add(0, index, 1 - share)
        seen = seen.index_add(0, index + 1, share) / len(index)
        momentum = self.momentum if bool(self.histogram.any()) else 1.0
        self.histogram.lerp_(seen, momentum)
