"""Triplets of a batch: all of them, or one an anchor by a rule.

Distances and masks are matrices (B, R), anchors by references; what a rule gives are the
references' indices (B,), -1 for none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Triplets = tuple[Tensor, Tensor, Tensor]
# From distances and the masks of positives and negatives, each (A, B) with at least one of both
# in every row, the positive and the negative of every anchor, (A,) each; -1 leaves an anchor out.
Rule = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class TripletMiner(nn.Module):
    """A miner of triplets, which is called as (embeddings, labels).

    Embeddings (B, D) have unit length; what it returns are indices into the batch: (anchors,
    positives, negatives). It draws from torch's default generator, which the training loop seeds
    at every step.
    """


class AllTriplets(TripletMiner):
    """Every triplet of the batch ("batch-all")."""

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        negative = labels[:, None] != labels[None, :]
        anchors, positives = (~negative).fill_diagonal_(False).nonzero(as_tuple=True)
        pairs, negatives = negative[anchors].nonzero(as_tuple=True)
        return anchors[pairs], positives[pairs], negatives


class TripletPerAnchor(TripletMiner):
    """One triplet for every anchor that has a positive and a negative, chosen by a rule.

    With `squared` the rule compares squared distances, as a loss on them does.
    """

    def __init__(self, rule: Rule, squared: bool = False) -> None:
        super().__init__()
        self.rule = rule
        self.squared = squared

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        distances = unit_distances(embeddings)
        if self.squared:
            distances = distances.square()
        negative = labels[:, None] != labels[None, :]
        positive = (~negative).fill_diagonal_(False)
        anchors = torch.nonzero(positive.any(1) & negative.any(1)).flatten()
        if not len(anchors):
            return anchors, anchors, anchors
        positives, negatives = self.rule(distances[anchors], positive[anchors], negative[anchors])
        kept = (positives >= 0) & (negatives >= 0)
        return anchors[kept], positives[kept], negatives[kept]


def unit_distances(embeddings: Tensor) -> Tensor:
    """Distances (B, B) of the directions of embeddings (B, d)."""
    unit = functional.normalize(embeddings.float(), dim=1)
    return (2 - 2 * unit @ unit.T).clamp(min=0).sqrt()


def random(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """A random positive and a random negative."""
    return draw(positive), draw(negative)


def hard(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """The farthest positive and the closest negative (arXiv:1703.07737)."""
    return farthest(distances, positive), closest(distances, negative)


def semi_hard(margin: float) -> Rule:
    """A random positive, and a random negative farther than it by less than the margin.

    Where there is none, any random negative (arXiv:1503.03832, as in the code of
    arXiv:2002.08473; TensorFlow's takes the farthest one).
    """

    def rule(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        positives = draw(positive)
        reach = distances.gather(1, positives[:, None])
        wanted = negative & (distances > reach) & (distances < reach + margin)
        return positives, draw(wanted, negative)

    return rule


def soft_hard(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """A random positive beyond the closest negative, and a negative before the farthest positive.

    Where there is none, any random one (arXiv:2002.08473).
    """
    nearest = distances.masked_fill(~negative, torch.inf).amin(1, keepdim=True)
    widest = distances.masked_fill(~positive, -torch.inf).amax(1, keepdim=True)
    return (
        draw(positive & (distances > nearest), positive),
        draw(negative & (distances < widest), negative),
    )


def easy_positive(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """The closest positive and the closest negative (EPHN of arXiv:1904.04370)."""
    return closest(distances, positive), closest(distances, negative)


def easy_semi_hard(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """The closest positive and the closest negative beyond it (EPSHN of arXiv:1904.04370).

    Anchors all of whose negatives are closer are left out.
    """
    positives = closest(distances, positive)
    beyond = negative & (distances > distances.gather(1, positives[:, None]))
    return positives, torch.where(beyond.any(1), closest(distances, beyond), -1)


RULES: dict[str, Rule] = {
    "random": random,
    "hard": hard,
    "softhard": soft_hard,
    "easy_positive": easy_positive,
}


def draw(wanted: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """One random index (A,) of the true entries of every row; of `otherwise`'s if it has none."""
    if otherwise is not None:
        wanted = torch.where(wanted.any(1, keepdim=True), wanted, otherwise)
    return torch.multinomial(wanted.float(), 1).flatten()


def closest(distances: Tensor, among: Tensor) -> Tensor:
    """The index (A,) of the smallest distance among the true entries of every row."""
    return distances.masked_fill(~among, torch.inf).argmin(1)


def farthest(distances: Tensor, among: Tensor) -> Tensor:
    """The index (A,) of the largest distance among the true entries of every row."""
    return distances.masked_fill(~among, -torch.inf).argmax(1)
