"""Losses over pairs and triplets of a batch."""

from __future__ import annotations

from pytorch_metric_learning import losses, miners

from oodml.train.mining import DistanceWeighted
from oodml.train.objective import Criterion
from oodml.train.registry import method


@method("contrastive", paper="10.1109/CVPR.2006.100")
def contrastive(
    num_classes: int,
    embedding_dim: int,
    *,
    positive_margin: float = 0.0,
    negative_margin: float = 1.0,
) -> Criterion:
    """Contrastive loss: pull positives together, push negatives beyond a margin.

    Hinges on the unsquared distance, each averaged over the pairs that violate it.
    """
    return Criterion(losses.ContrastiveLoss(positive_margin, negative_margin))


@method("multi_similarity", paper="arXiv:1904.06627")
def multi_similarity(
    num_classes: int,
    embedding_dim: int,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float = 0.1,
) -> Criterion:
    """Multi-similarity loss with its own miner."""
    loss = losses.MultiSimilarityLoss(alpha, beta, base)
    return Criterion(loss, miners.MultiSimilarityMiner(epsilon))


@method("margin", paper="arXiv:1706.07567")
def margin(
    num_classes: int,
    embedding_dim: int,
    *,
    margin: float = 0.2,
    beta: float = 1.2,
    cutoff: float = 0.5,
    upper_cutoff: float = 1.4,
) -> Criterion:
    """Margin loss, one learned boundary a class, on distance-weighted triplets."""
    loss = losses.MarginLoss(margin=margin, beta=beta, learn_beta=True, num_classes=num_classes)
    return Criterion(loss, DistanceWeighted(cutoff, upper_cutoff))
