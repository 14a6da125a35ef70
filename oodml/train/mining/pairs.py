"""Pairs of a batch for losses that compare classes by one pair each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Pairs = tuple[Tensor, Tensor, Tensor, Tensor]


class OnePairPerClass(nn.Module):
    """A random anchor and positive of every class, against the positives of all other classes.

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
