"""The rho-regularisation of a miner, which keeps classes from collapsing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodml.train.methods.parts.mining import TripletMiner, Triplets


class Spread(TripletMiner):
    """The triplets of a miner, each (a, p, n) replaced by (a, a, p) with probability rho.

    The pull of such a triplet vanishes and its push acts on two samples of one class, which
    spreads the classes over more dimensions (arXiv:2002.08473). For losses over triplets; losses
    over the matrix of all pairs refuse a pair that is a positive and a negative.
    """

    def __init__(self, miner: nn.Module, rho: float) -> None:
        super().__init__()
        self.miner = miner
        self.rho = rho

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        anchors, positives, negatives = self.miner(embeddings, labels)
        # Drawn after the triplets, so that rho = 0 gives the same triplets as the miner alone.
        replaced = torch.rand(len(anchors), device=anchors.device) < self.rho
        return (
            anchors,
            torch.where(replaced, anchors, positives),
            torch.where(replaced, positives, negatives),
        )
