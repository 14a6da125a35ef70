"""Losses over triplets of a batch, and the rules that mine them.

Distances and masks are matrices (B, R), anchors by references; a rule returns indices (B,) into the
references, -1 for none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.distances import LpDistance
from torch import Tensor, nn

from oodml.errors import unknown_name
from oodml.train.methods.parts.mining import (
    DistanceWeighted,
    TripletMiner,
    Triplets,
    draw,
    unit_distances,
)
from oodml.train.methods.parts.over_pairs import SoftmaxOfPairs, distances, mean_where, pairs_of
from oodml.train.objective import Criterion
from oodml.train.published_protocols import REVISITING
from oodml.train.registry import method

# Maps distances and the masks of positives and negatives, each (A, B) with at least one of both
# per row, to each anchor's positive and negative, (A,) each; -1 leaves an anchor out.
Rule = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# The largest distance on the unit sphere: no negative is cut off.
_WIDEST = 2.0
_BETA_RATE = {"criterion_learning_rate": 5e-4}


@method(
    "triplet",
    paper="arXiv:1503.03832",
    source="arXiv:1503.03832",
)
def triplet(
    num_classes: int,
    embedding_dim: int,
    *,
    margin: float = 0.2,
    mining: str = "semihard",
    squared: bool = False,
    soft: bool = False,
) -> Criterion:
    """Triplet loss: the anchor nearer to its positive than to its negative by a margin.

    `mining` selects one triplet per anchor, "random", "hard", "semihard", "softhard", "distance"
    (distance-weighted) or "easy_positive", or takes "all" of the batch. The mean is over the
    triplets that violate the margin. `squared` compares squared distances, as the first paper does;
    `soft` replaces the hinge by log(1 + e^d), without the margin (arXiv:1703.07737).
    """
    loss = losses.TripletMarginLoss(
        margin=0.0 if soft else margin,
        smooth_loss=soft,
        distance=LpDistance(power=2 if squared else 1),
    )
    return Criterion(loss, _miner(mining, margin, squared), takes_references=True)


@method(
    "easy_positive",
    paper="arXiv:1904.04370",
    source="arXiv:1904.04370",
)
def easy_positive(
    num_classes: int, embedding_dim: int, *, temperature: float = 0.1, negatives: str = "hard"
) -> SoftmaxOfPairs:
    """Easy positive mining: a softmax of two, over each anchor's closest positive and a negative.

    `negatives` are the closest one ("hard", EPHN) or the closest one beyond the positive
    ("semihard", EPSHN).
    """
    rules = {"hard": easy_hard, "semihard": easy_semi_hard}
    if negatives not in rules:
        raise unknown_name("choice of negatives", negatives, rules)
    return SoftmaxOfPairs(TripletPerAnchor(rules[negatives]), temperature=temperature)


@method(
    "margin",
    paper="arXiv:1706.07567",
    source="arXiv:1706.07567",
)
def margin(
    num_classes: int,
    embedding_dim: int,
    *,
    margin: float = 0.2,
    beta: float = 1.2,
    nu: float = 0.0,
    per_class: bool = True,
    cutoff: float = 0.5,
    upper_cutoff: float = 1.4,
) -> Criterion:
    """Margin loss: a learned boundary per class, on triplets with distance-weighted negatives.

    Positives are pulled within `beta` - margin and negatives pushed beyond `beta` + margin; the sum
    is divided by the number of active terms. `beta` is the initial boundary, one per class or,
    without `per_class`, one for all; `nu` is the weight of their sum. An `upper_cutoff` of 2
    excludes no negative.
    """
    loss = _boundaries(margin, beta, nu, num_classes if per_class else None)
    return Criterion(loss, DistanceWeighted(cutoff, upper_cutoff), takes_references=True)


@method(
    "r_margin",
    paper="arXiv:2002.08473",
    source=f"{REVISITING}, CUB200-2011",
)
def r_margin(
    num_classes: int,
    embedding_dim: int,
    *,
    margin: float = 0.2,
    beta: float = 0.6,
    rho: float = 0.4,
    nu: float = 0.0,
    per_class: bool = True,
    cutoff: float = 0.5,
    upper_cutoff: float = _WIDEST,
) -> Criterion:
    """R-margin: margin loss in which a share of triplets pushes samples of one class apart.

    With probability `rho` a triplet (a, p, n) becomes (a, a, p), which keeps classes from
    collapsing to points.
    """
    loss = _boundaries(margin, beta, nu, num_classes if per_class else None)
    return Criterion(
        loss,
        Spread(DistanceWeighted(cutoff, upper_cutoff), rho),
        takes_references=True,
    )


@method(
    "dynamic_soft_margin",
    paper="10.1109/ICCV.2019.00306",
    source="pytorch-metric-learning",
)
class DynamicSoftMargin(Criterion):
    """Dynamic soft margin: triplet loss weighted by the share of easier triplets, no margin.

    Mean of F(d) d over one triplet per positive pair, with the negative closest to either of its
    samples; d = D_ap - D_an, and F is the running distribution of d. F is a histogram on [-2, 2],
    the range of d on the unit sphere, and a buffer: a resumed run continues with it.
    """

    histogram: Tensor

    def __init__(
        self, num_classes: int, embedding_dim: int, *, bins: int = 10, momentum: float = 0.01
    ) -> None:
        super().__init__()
        self.bins = bins
        self.momentum = momentum
        self.register_buffer("histogram", torch.zeros(bins + 1))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The scalar loss of unit-length embeddings (B, D)."""
        matrix = distances(embeddings, embeddings)
        positive, negative = pairs_of(labels)
        closest = torch.where(negative, matrix, torch.inf).amin(1)
        closest = torch.minimum(closest[:, None], closest[None, :])
        chosen = positive & closest.isfinite()
        differences = matrix - torch.where(chosen, closest, 0.0)
        weights = self._weights(differences.detach(), chosen)
        return mean_where(weights * differences, chosen)

    def _weights(self, differences: Tensor, chosen: Tensor) -> Tensor:
        position = ((differences + 2) * (self.bins / 4)).clamp(0, self.bins)
        index = position.floor().clamp(max=self.bins - 1).long()
        if self.training and chosen.any():
            self._observe(index[chosen], (position - index)[chosen])
        distribution: Tensor = self.histogram.cumsum(0)
        return distribution[index]

    def _observe(self, index: Tensor, share: Tensor) -> None:
        seen = torch.zeros_like(self.histogram).index_add(0, index, 1 - share)
        seen = seen.index_add(0, index + 1, share) / len(index)
        momentum = self.momentum if bool(self.histogram.any()) else 1.0
        self.histogram.lerp_(seen, momentum)


class AllTriplets(TripletMiner):
    """All triplets of the batch ("batch-all")."""

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        negative = labels[:, None] != labels[None, :]
        anchors, positives = (~negative).fill_diagonal_(False).nonzero(as_tuple=True)
        pairs, negatives = negative[anchors].nonzero(as_tuple=True)
        return anchors[pairs], positives[pairs], negatives


class TripletPerAnchor(TripletMiner):
    """One triplet for every anchor that has a positive and a negative, selected by a rule.

    With `squared` the rule compares squared distances.
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
    """A random positive beyond the closest negative, and a negative within the farthest positive.

    Where there is none, a random one of all (arXiv:2002.08473).
    """
    nearest = distances.masked_fill(~negative, torch.inf).amin(1, keepdim=True)
    widest = distances.masked_fill(~positive, -torch.inf).amax(1, keepdim=True)
    return (
        draw(positive & (distances > nearest), positive),
        draw(negative & (distances < widest), negative),
    )


def easy_hard(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """The closest positive and the closest negative (EPHN of arXiv:1904.04370)."""
    return closest(distances, positive), closest(distances, negative)


def easy_semi_hard(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """The closest positive, and the closest negative beyond it (EPSHN of arXiv:1904.04370).

    Anchors without a negative beyond the positive are left out.
    """
    positives = closest(distances, positive)
    beyond = negative & (distances > distances.gather(1, positives[:, None]))
    return positives, torch.where(beyond.any(1), closest(distances, beyond), -1)


RULES: dict[str, Rule] = {
    "random": random,
    "hard": hard,
    "softhard": soft_hard,
    "easy_positive": easy_hard,
}


def closest(distances: Tensor, among: Tensor) -> Tensor:
    """The index (A,) of the smallest distance among the true entries of every row."""
    return distances.masked_fill(~among, torch.inf).argmin(1)


def farthest(distances: Tensor, among: Tensor) -> Tensor:
    """The index (A,) of the largest distance among the true entries of every row."""
    return distances.masked_fill(~among, -torch.inf).argmax(1)


def _miner(name: str, margin: float, squared: bool) -> TripletMiner:
    if name == "all":
        return AllTriplets()
    if name == "distance":
        return DistanceWeighted()
    if name == "semihard":
        return TripletPerAnchor(semi_hard(margin), squared)
    if name in RULES:
        return TripletPerAnchor(RULES[name])
    raise unknown_name("mining", name, (*RULES, "all", "semihard", "distance"))


def _boundaries(margin: float, beta: float, nu: float, classes: int | None) -> losses.MarginLoss:
    return losses.MarginLoss(margin, nu, beta, learn_beta=True, num_classes=classes)
