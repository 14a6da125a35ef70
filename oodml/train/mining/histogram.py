"""Negatives drawn by a histogram over their distance, which may be changed during training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.methods.parts.mining import Triplets, draw, unit_distances

# arXiv:2003.11113: 29 bins between 30 knots, and weights that stay within float's reach.
LOWEST, HIGHEST, BINS = 0.1, 1.4, 29
INITIAL = (0.3, 0.7)
# The weight of all other bins at first, as in the code published with the paper.
ELSEWHERE = 1e-15
LEAST_WEIGHT, LARGEST_WEIGHT = 1e-25, 1e25


class Histogram(nn.Module):
    """One triplet an anchor: a random positive, a negative by the weight of its distance's bin.

    Candidate k of anchor i is drawn with a chance proportional to `weights[bin(D_ik)]`. A distance
    below 0.1 counts to the first bin, one above 1.4 to the last: in 128 dimensions half of all
    random pairs are farther than 1.4, and none should be out of reach. `self_regularized` keeps
    the positives and the anchor itself among the candidates, which spreads classes as in
    arXiv:2002.08473.
    """

    weights: Tensor
    borders: Tensor

    def __init__(self, self_regularized: bool = True) -> None:
        super().__init__()
        self.self_regularized = self_regularized
        knots = torch.linspace(LOWEST, HIGHEST, BINS + 1)
        centers = (knots[1:] + knots[:-1]) / 2
        inside = (centers >= INITIAL[0]) & (centers <= INITIAL[1])
        self.register_buffer("weights", torch.where(inside, 1.0, ELSEWHERE).double())
        self.register_buffer("borders", knots[1:-1])

    @property
    def probabilities(self) -> Tensor:
        """The weights (29,) float64 over their sum."""
        return self.weights / self.weights.sum()

    @torch.no_grad()
    def multiply(self, factors: Tensor) -> None:
        """Multiply the weights by factors (29,) and keep them between 1e-25 and 1e25."""
        self.weights.mul_(factors).clamp_(LEAST_WEIGHT, LARGEST_WEIGHT)

    def bins(self, distances: Tensor) -> Tensor:
        """The bin of every distance, from 0, in the shape of `distances`."""
        return torch.bucketize(distances, self.borders)

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        distances = unit_distances(embeddings).fill_diagonal_(0.0)
        positive = labels[:, None] == labels[None, :]
        candidate = torch.ones_like(positive) if self.self_regularized else ~positive
        positive.fill_diagonal_(False)
        anchors = torch.nonzero(candidate.any(1) & positive.any(1)).flatten()
        if not len(anchors):
            return anchors, anchors, anchors
        chances = self.chances(distances[anchors], candidate[anchors])
        return anchors, draw(positive[anchors]), torch.multinomial(chances, 1).flatten()

    def chances(self, distances: Tensor, candidate: Tensor) -> Tensor:
        """The chance (A, B) of every candidate to be drawn; each row has one or more of them."""
        logits = self.weights.log().float()[self.bins(distances)]
        return functional.softmax(logits.masked_fill(~candidate, -torch.inf), dim=1)
