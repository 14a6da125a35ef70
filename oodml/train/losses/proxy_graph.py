"""ProxyGML: labels spread from the nearest proxies of every sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# Larger than any difference of two cosines: a sample's own proxies rank before all others.
FIRST = 10.0
# Proxies compared with all others in one step: all of the paper's 12 for each of 100 classes.
MOST_COMPARED = 1200


def nearest_proxies(similarity: Tensor, labels: Tensor, proxies_per_class: int, k: int) -> Tensor:
    """Which k proxies each sample keeps, its own among them: (B, C N) bool.

    Proxies of a class stand together. Own proxies are raised for the ranking only.
    """
    classes = torch.arange(similarity.shape[1], device=labels.device) // proxies_per_class
    ranks = similarity.detach() + FIRST * (classes == labels[:, None])
    kept = torch.zeros_like(similarity, dtype=torch.bool)
    return kept.scatter_(1, ranks.topk(k, dim=1, sorted=False).indices, True)


def propagated_loss(similarity: Tensor, kept: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean of -log softmax over the classes that have a kept proxy, at the label.

    A class's logit is the sum of the raw similarities of its kept proxies. Which classes take
    part is read from `kept`: similarities that cancel out do not drop their class. `similarity` is
    (B, p), `kept` a mask (B, p), `labels` (B,); the loss is a scalar.
    """
    mass = (similarity * kept).view(len(labels), num_classes, -1).sum(dim=2)
    reached = kept.view(len(labels), num_classes, -1).any(dim=2)
    return functional.cross_entropy(mass.masked_fill(~reached, -torch.inf), labels)


class ProxyGraph(nn.Module):
    """Softmax over classes reached by each sample's k nearest proxies (arXiv:2010.13636).

    N proxies a class; k is the share `ratio` of all C N proxies, and at least 2 N: with N, only
    the own class would be left and the loss would be 0. `weight` times the same propagation from
    proxy to proxy keeps the proxies of a class together: over all of them, or over 1,200 drawn
    anew at every step where there are more.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        proxies_per_class: int,
        ratio: float,
        weight: float,
    ) -> None:
        super().__init__()
        count = num_classes * proxies_per_class
        self.num_classes, self.proxies_per_class = num_classes, proxies_per_class
        self.nearest = min(count, max(math.ceil(ratio * count), 2 * proxies_per_class))
        self.weight = weight
        self.proxies = nn.Parameter(torch.empty(count, embedding_dim))
        nn.init.kaiming_uniform_(self.proxies, a=math.sqrt(5))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over unit embeddings (B, d) with labels (B,), plus the proxies' own."""
        proxies = functional.normalize(self.proxies, dim=1)
        similarity = embeddings @ proxies.T
        kept = nearest_proxies(similarity, labels, self.proxies_per_class, self.nearest)
        loss = propagated_loss(similarity, kept, labels, self.num_classes)
        if not self.weight:
            return loss
        return loss + self.weight * self._between(proxies)

    def _between(self, proxies: Tensor) -> Tensor:
        # (P P^T) Y = P (P^T Y): the C N x C N similarities are never formed.
        sums = proxies.view(self.num_classes, self.proxies_per_class, -1).sum(dim=1)
        classes = torch.arange(self.num_classes, device=proxies.device)
        own = classes.repeat_interleave(self.proxies_per_class)
        if len(own) > MOST_COMPARED:
            drawn = torch.randperm(len(own), device=own.device)[:MOST_COMPARED]
            proxies, own = proxies[drawn], own[drawn]
        return functional.cross_entropy(proxies @ sums.T, own)
