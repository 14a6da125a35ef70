"""Triplets within a class: what they pull and push is how its samples differ."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodml.train.methods.parts.mining import Triplets


class WithinClasses(nn.Module):
    """One triplet for every sample whose class has two others in the batch, drawn at random.

    The code of arXiv:2004.13458 draws the three with replacement, so that with two samples a class
    every triplet has a sample twice; here the three are different samples.
    """

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        same = (labels[:, None] == labels[None, :]).fill_diagonal_(False)
        anchors = torch.nonzero(same.sum(1) > 1).flatten()
        if not len(anchors):
            return anchors, anchors, anchors
        drawn = torch.multinomial(same[anchors].float(), 2)
        return anchors, drawn[:, 0], drawn[:, 1]
