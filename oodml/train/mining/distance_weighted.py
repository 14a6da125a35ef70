"""Negatives drawn so that all distances come equally often."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oodml.train.methods.parts.mining import TripletMiner, Triplets, unit_distances


class DistanceWeighted(TripletMiner):
    """One triplet an anchor: a random positive and a distance-weighted negative (arXiv:1706.07567).

    On the unit sphere in d dimensions distances D of random pairs have density
    q(D) ~ D^(d-2) (1 - D^2/4)^((d-3)/2); a negative is drawn with weight 1/q(D), distances below
    `cutoff` counted as `cutoff`, those from `upper` on left out. Weights are normalised for every
    anchor by itself: pytorch-metric-learning 2.9 divides by the largest of the whole batch, so that
    in many dimensions one close pair leaves all other anchors without a weight.
    """

    def __init__(self, cutoff: float = 0.5, upper: float = 1.4) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.upper = upper

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        distances = unit_distances(embeddings)
        same = labels[:, None] == labels[None, :]
        allowed = ~same & (distances < self.upper)
        positive = same.fill_diagonal_(False)
        anchors = torch.nonzero(allowed.any(1) & positive.any(1)).flatten()
        if not len(anchors):
            return anchors, anchors, anchors
        logits = self.log_weights(distances, embeddings.shape[1]).masked_fill(~allowed, -torch.inf)
        weights = functional.softmax(logits[anchors], dim=1)
        return (
            anchors,
            torch.multinomial(positive[anchors].float(), 1).flatten(),
            torch.multinomial(weights, 1).flatten(),
        )

    def log_weights(self, distances: Tensor, dimension: int) -> Tensor:
        """log 1/q(D) of distances of any shape, up to a constant, in so many dimensions."""
        d = distances.clamp(min=self.cutoff, max=2 - 1e-4)
        return (2.0 - dimension) * d.log() - (dimension - 3) / 2 * (1 - d * d / 4).log()
