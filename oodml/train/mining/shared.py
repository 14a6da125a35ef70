"""Triplets across classes: what their pull and push can agree on is shared by classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.methods.parts.mining import Triplets, draw, unit_distances
from oodml.train.mining.distance_weighted import DistanceWeighted


class AcrossClasses(nn.Module):
    """One triplet an anchor, its three samples of three different classes (arXiv:2004.05582).

    The positive is any sample of another class, the negative a distance-weighted one of a third
    class. With `groups`, labels that are not the true ones, the positive has the anchor's group
    and the negative another one, the three true classes being different all the same.
    """

    def __init__(self, cutoff: float = 0.5, upper: float = 2.0) -> None:
        super().__init__()
        self.weighted = DistanceWeighted(cutoff, upper)

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor, groups: Tensor | None = None) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        distances = unit_distances(embeddings)
        other = labels[:, None] != labels[None, :]
        alike = other if groups is None else other & (groups[:, None] == groups[None, :])
        anchors = torch.nonzero(alike.any(1)).flatten()
        if not len(anchors):
            return anchors, anchors, anchors
        positives = draw(alike[anchors])
        allowed = other[anchors] & other[positives] & (distances[anchors] < self.weighted.upper)
        if groups is not None:
            allowed &= groups[anchors][:, None] != groups[None, :]
        kept = allowed.any(1)
        anchors, positives, allowed = anchors[kept], positives[kept], allowed[kept]
        if not len(anchors):
            return anchors, anchors, anchors
        logits = self.weighted.log_weights(distances[anchors], embeddings.shape[1])
        weights = functional.softmax(logits.masked_fill(~allowed, -torch.inf), dim=1)
        return anchors, positives, torch.multinomial(weights, 1).flatten()
