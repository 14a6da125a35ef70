"""A loss over triplets of three classes each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodml.train.mining import AcrossClasses


class SharedByClasses(nn.Module):
    """A loss over triplets, on triplets whose samples are of three different classes.

    A boundary of the loss belongs to the anchor's class. With `permuted` the labels of the batch
    are shuffled, once for the miner and the boundaries together, so that samples of one such group
    attract each other (as in the code of arXiv:2004.13458, which lets true classes coincide).
    """

    def __init__(self, loss: nn.Module, permuted: bool) -> None:
        super().__init__()
        self.loss = loss
        self.miner = AcrossClasses()
        self.permuted = permuted

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The scalar loss of unit-length embeddings (B, D)."""
        groups = None
        if self.permuted:
            groups = labels[torch.randperm(len(labels)).to(labels.device)]
        triplets = self.miner(embeddings.detach(), labels, groups)
        value: Tensor = self.loss(embeddings, labels if groups is None else groups, triplets)
        return value
