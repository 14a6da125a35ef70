"""Losses over the pairs of a batch, each of them a function of a pair's own distance or similarity.

Values and masks are matrices (B, R), anchors by references.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import unknown_name
from oodml.train.methods.parts.over_pairs import (
    OverPairs,
    cosines,
    distances,
    log_sum_exp,
    mean_where,
)
from oodml.train.objective import Criterion
from oodml.train.registry import Base, method

_MULTI_SIMILARITY = Base("multi_similarity")
_TUPLET_MARGIN = Base("tuplet_margin")
REDUCTIONS = ("violating", "pairs", "anchors")


@method(
    "contrastive",
    paper="10.1109/CVPR.2006.100",
    source="arXiv:2002.08473",
)
class Contrastive(OverPairs):
    """Contrastive loss: positives within one margin, negatives beyond another.

    Hinges on the unsquared distance, [D - m_p]+ of positives plus [m_n - D]+ of negatives (the
    original squares them). `reduction` averages positives and negatives separately over the pairs
    that violate their margin ("violating") or over all pairs ("pairs"), or divides the sums by the
    number of anchors ("anchors"); each needs its own learning rate.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        positive_margin: float = 0.0,
        negative_margin: float = 1.0,
        reduction: str = "violating",
    ) -> None:
        super().__init__(distances)
        if reduction not in REDUCTIONS:
            raise unknown_name("reduction", reduction, REDUCTIONS)
        self.positive_margin, self.negative_margin = positive_margin, negative_margin
        self.reduction = reduction

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The reduced hinges of positives plus those of negatives."""
        pull = functional.relu(values - self.positive_margin)
        push = functional.relu(self.negative_margin - values)
        return reduced(pull, positive, self.reduction) + reduced(push, negative, self.reduction)


@method(
    "snr_contrastive",
    paper="arXiv:1904.02616",
    source="pytorch-metric-learning",
)
class SignalToNoiseContrastive(Contrastive):
    """SNR contrastive loss: the contrastive loss on the noise-to-signal ratio of a pair.

    Noise is the variance over dimensions of the two vectors' difference, signal that of the anchor.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        positive_margin: float = 0.0,
        negative_margin: float = 1.0,
    ) -> None:
        super().__init__(
            num_classes,
            embedding_dim,
            positive_margin=positive_margin,
            negative_margin=negative_margin,
        )
        self.matrix = signal_to_noise


def reduced(terms: Tensor, chosen: Tensor, reduction: str) -> Tensor:
    """The scalar reduction of the non-negative terms (B, R) of the chosen pairs."""
    if reduction == "violating":
        return mean_where(terms, chosen & (terms > 0))
    if reduction == "pairs":
        return mean_where(terms, chosen)
    return torch.where(chosen, terms, 0.0).sum() / len(terms)


def signal_to_noise(anchors: Tensor, references: Tensor) -> Tensor:
    """Noise-to-signal ratios (B, R): variance of the difference over that of the anchor.

    arXiv:1904.02616. The variances are over a vector's dimensions; the matrix is not symmetric.
    """
    # From second moments: 1 ms, against 17 from the differences (B, R, D), for B = 112, D = 128.
    left = anchors - anchors.mean(1, keepdim=True)
    right = references - references.mean(1, keepdim=True)
    squares = left.square().sum(1)[:, None] + right.square().sum(1)[None, :]
    noise = (squares - 2 * left @ right.T).clamp(min=0) / (anchors.shape[1] - 1)
    signal = anchors.var(dim=1).clamp(min=torch.finfo(anchors.dtype).eps)
    return noise / signal[:, None]


@method(
    "multi_similarity",
    paper="arXiv:1904.06627",
    source="pytorch-metric-learning",
)
def multi_similarity(
    num_classes: int,
    embedding_dim: int,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float = 0.1,
) -> Criterion:
    """Multi-similarity loss: soft weights from self- and relative similarity, and its own miner."""
    loss = losses.MultiSimilarityLoss(alpha, beta, base)
    return Criterion(loss, miners.MultiSimilarityMiner(epsilon), takes_references=True)


@method("circle", paper="arXiv:2002.10857", source="arXiv:2002.10857, fine-grained retrieval")
def circle(
    num_classes: int, embedding_dim: int, *, relaxation: float = 0.4, scale: float = 80.0
) -> Criterion:
    """Circle loss: each similarity is weighted by its own distance from the optimum."""
    return Criterion(losses.CircleLoss(relaxation, scale), takes_references=True)


@method("ranked_list", paper="arXiv:1903.03238", source="arXiv:1903.03238, its simpler variant")
class RankedList(OverPairs):
    """Ranked list loss: positives within one radius, negatives beyond a wider one.

    The radii are alpha - margin and alpha. A violation has weight exp(T * violation), normalised
    over the violations of its anchor.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        margin: float = 0.4,
        alpha: float = 1.2,
        positive_temperature: float = 0.0,
        negative_temperature: float = 10.0,
        imbalance: float = 0.5,
    ) -> None:
        super().__init__(distances)
        self.margin, self.alpha, self.imbalance = margin, alpha, imbalance
        self.temperatures = positive_temperature, negative_temperature

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean over anchors of the weighted violations of positives and of negatives."""
        pull = _weighted(values - (self.alpha - self.margin), positive, self.temperatures[0])
        push = _weighted(self.alpha - values, negative, self.temperatures[1])
        return ((1 - self.imbalance) * pull + self.imbalance * push).mean()


class Added(Criterion):
    """A base loss plus a weighted regulariser over all pairs of unit-length embeddings."""

    def __init__(self, base: Criterion, regularizer: nn.Module, weight: float) -> None:
        super().__init__(
            base,
            base.miner,
            normalized=base.normalized,
            takes_pairs=base.takes_pairs,
            takes_references=base.takes_references,
        )
        self.regularizer = regularizer
        self.weight = weight

    def forward(self, embeddings: Tensor, labels: Tensor, *given: Any) -> Tensor:
        """The scalar loss; tuples and references go to the base loss only."""
        value = self._of_loss(embeddings, labels, *given)
        added: Tensor = self.regularizer(functional.normalize(embeddings, dim=1), labels)
        return value + self.weight * added


@method(
    "threshold_consistent_margin",
    paper="arXiv:2307.04047",
    source="pytorch-metric-learning",
)
def threshold_consistent_margin(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = _MULTI_SIMILARITY,
    weight: float = 1.0,
    positive_margin: float = 0.9,
    negative_margin: float = 0.5,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
) -> Criterion:
    """Threshold-consistent margins: a base loss plus hinges at thresholds shared by all classes.

    So that one distance threshold suits all classes. The hinges are over all pairs of the batch,
    whatever the base loss mines.
    """
    hinges = ThresholdConsistent(
        (positive_margin, negative_margin), (positive_weight, negative_weight)
    )
    return Added(base.criterion(num_classes, embedding_dim), hinges, weight)


class ThresholdConsistent(OverPairs):
    """Mean hinge of the positives below one similarity plus that of the negatives above another.

    arXiv:2307.04047: the means are over the pairs that violate their threshold. `margins` and
    `weights` are those of positives and of negatives.
    """

    def __init__(self, margins: tuple[float, float], weights: tuple[float, float]) -> None:
        super().__init__(cosines)
        self.margins, self.weights = margins, weights

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The weighted sum of both mean hinges."""
        pull = reduced(functional.relu(self.margins[0] - values), positive, "violating")
        push = reduced(functional.relu(values - self.margins[1]), negative, "violating")
        return self.weights[0] * pull + self.weights[1] * push


@method(
    "intra_pair_variance",
    paper="10.1109/ICCV.2019.00659",
    source="documentation of pytorch-metric-learning",
)
def intra_pair_variance(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = _TUPLET_MARGIN,
    weight: float = 0.5,
    positive_epsilon: float = 0.01,
    negative_epsilon: float = 0.01,
) -> Criterion:
    """Intra-pair variance: a base loss plus the spread of positive and of negative similarities."""
    regularizer = losses.IntraPairVarianceLoss(positive_epsilon, negative_epsilon)
    return Added(base.criterion(num_classes, embedding_dim), regularizer, weight)


def _weighted(violation: Tensor, chosen: Tensor, temperature: float) -> Tensor:
    chosen = chosen & (violation > 0)
    logits = temperature * violation
    weights = (logits - log_sum_exp(logits, chosen)[:, None]).where(chosen, -torch.inf).exp()
    return (weights * violation).sum(1)
