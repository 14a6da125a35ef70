"""Miners that several methods use, and the building blocks of miners.

A miner is called as (embeddings, labels), with unit-length embeddings (B, D), and returns indices
into the batch. It draws from torch's default generator, which the training loop seeds at every
step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

Triplets = tuple[Tensor, Tensor, Tensor]
Pairs = tuple[Tensor, Tensor, Tensor, Tensor]


class TripletMiner(nn.Module):
    """A miner that returns triplets: indices (T,) of anchors, positives and negatives."""


class DistanceWeighted(TripletMiner):
    """One triplet per anchor, with a distance-weighted negative (arXiv:1706.07567).

    The positive is random. On the unit sphere in d dimensions distances D of random pairs have
    density q(D) ~ D^(d-2) (1 - D^2/4)^((d-3)/2); a negative is drawn with weight 1/q(D), where
    distances below `cutoff` count as `cutoff` and those from `upper` on are excluded. Weights are
    normalised per anchor: pytorch-metric-learning 2.9 divides by the largest weight of the whole
    batch, so that in many dimensions a single close pair leaves all other anchors with weight 0.
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
        """log 1/q(D) of distances of any shape, up to a constant, in `dimension` dimensions."""
        d = distances.clamp(min=self.cutoff, max=2 - 1e-4)
        return (2.0 - dimension) * d.log() - (dimension - 3) / 2 * (1 - d * d / 4).log()


class OnePairPerClass(nn.Module):
    """A random anchor and positive per class; the other classes' positives are the negatives.

    pytorch-metric-learning 2.9 takes the first two samples of a class, so that its loss depends on
    the order of the batch and never uses a third sample.
    """

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Pairs:
        """Anchors and positives (N,), then anchors and negatives (N (N - 1),); N classes."""
        order = torch.randperm(len(labels), device=labels.device)
        order = order[labels[order].argsort(stable=True)]
        counts = torch.unique(labels, return_counts=True)[1]
        first = (counts.cumsum(0) - counts)[counts > 1]
        anchors, positives = order[first], order[first + 1]
        other = ~torch.eye(len(first), dtype=torch.bool, device=labels.device)
        of_anchor, of_negative = other.nonzero(as_tuple=True)
        return anchors, positives, anchors[of_anchor], positives[of_negative]


def unit_distances(embeddings: Tensor) -> Tensor:
    """Distances (B, B) between embeddings (B, d) scaled to unit length."""
    unit = functional.normalize(embeddings.float(), dim=1)
    return (2 - 2 * unit @ unit.T).clamp(min=0).sqrt()


def draw(wanted: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """A random true index (A,) per row; one of `otherwise` where the row has none."""
    if otherwise is not None:
        wanted = torch.where(wanted.any(1, keepdim=True), wanted, otherwise)
    return torch.multinomial(wanted.float(), 1).flatten()
