"""Losses over the pairs of a batch, each pair by its own distance or similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oodml.errors import unknown_name
from oodml.train.published import STUDY, reality_check
from oodml.train.registry import Base, Recipe, method

if TYPE_CHECKING:
    from oodml.train.methods.parts.over_pairs import OverPairs
    from oodml.train.objective import Criterion


_MULTI_SIMILARITY = Base("multi_similarity")
_TUPLET_MARGIN = Base("tuplet_margin")


@method(
    "contrastive",
    paper="10.1109/CVPR.2006.100",
    source="arXiv:2002.08473",
    recipes={
        "cub200": reality_check(positive_margin=-0.20, negative_margin=0.3841),
        "cars196": reality_check(positive_margin=0.2652, negative_margin=0.5409),
        "sop": reality_check(positive_margin=0.2850, negative_margin=0.5130),
    },
)
def contrastive(
    num_classes: int,
    embedding_dim: int,
    *,
    positive_margin: float = 0.0,
    negative_margin: float = 1.0,
    reduction: str = "violating",
) -> OverPairs:
    """Contrastive loss: pull positives together, push negatives beyond a margin.

    Hinges on the unsquared distance. `reduction` averages positives and negatives, each by
    themselves, over the pairs that violate their margin ("violating") or over all ("pairs"), or
    divides the sums by the batch size ("anchors"); learning rates do not carry over from one to
    another.
    """
    from oodml.train.losses import hinges
    from oodml.train.methods.parts.over_pairs import OverPairs, distances

    if reduction not in hinges.REDUCTIONS:
        raise unknown_name("reduction", reduction, hinges.REDUCTIONS)
    return OverPairs(
        distances,
        hinges.contrastive,
        positive_margin=positive_margin,
        negative_margin=negative_margin,
        reduction=reduction,
    )


@method(
    "snr_contrastive",
    paper="arXiv:1904.02616",
    source="pytorch-metric-learning",
    recipes={
        "cub200": reality_check(positive_margin=0.326, negative_margin=0.845),
        "cars196": reality_check(positive_margin=0.167, negative_margin=0.934),
        "sop": reality_check(positive_margin=0.376, negative_margin=1.083),
    },
)
def snr_contrastive(
    num_classes: int,
    embedding_dim: int,
    *,
    positive_margin: float = 0.0,
    negative_margin: float = 1.0,
) -> OverPairs:
    """Contrastive loss on the ratio of noise to signal in place of the distance.

    Noise is the variance over dimensions of two vectors' difference, signal that of the anchor.
    """
    from oodml.train.losses import hinges
    from oodml.train.methods.parts.over_pairs import OverPairs

    return OverPairs(
        hinges.signal_to_noise,
        hinges.contrastive,
        positive_margin=positive_margin,
        negative_margin=negative_margin,
        reduction="violating",
    )


_STUDIED = Recipe(STUDY, {"alpha": 2.0, "beta": 40.0, "base": 0.5, "epsilon": 0.1})


@method(
    "multi_similarity",
    paper="arXiv:1904.06627",
    source="pytorch-metric-learning",
    recipes=dict.fromkeys(("cub200", "cars196", "sop"), _STUDIED),
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
    """Multi-similarity loss with its own miner."""
    from pytorch_metric_learning import losses, miners

    from oodml.train.objective import Criterion

    loss = losses.MultiSimilarityLoss(alpha, beta, base)
    return Criterion(loss, miners.MultiSimilarityMiner(epsilon), takes_references=True)


@method("circle", paper="arXiv:2002.10857", source="arXiv:2002.10857, fine-grained retrieval")
def circle(
    num_classes: int, embedding_dim: int, *, relaxation: float = 0.4, scale: float = 80.0
) -> Criterion:
    """Circle loss: every similarity is pulled with a weight that grows with its own error."""
    from pytorch_metric_learning import losses

    from oodml.train.objective import Criterion

    return Criterion(losses.CircleLoss(relaxation, scale), takes_references=True)


@method("ranked_list", paper="arXiv:1903.03238", source="arXiv:1903.03238, its simpler variant")
def ranked_list(
    num_classes: int,
    embedding_dim: int,
    *,
    margin: float = 0.4,
    alpha: float = 1.2,
    positive_temperature: float = 0.0,
    negative_temperature: float = 10.0,
    imbalance: float = 0.5,
) -> OverPairs:
    """Ranked list loss: positives inside one radius, negatives outside a wider one."""
    from oodml.train.losses import hinges
    from oodml.train.methods.parts.over_pairs import OverPairs, distances

    return OverPairs(
        distances,
        hinges.ranked_list,
        margin=margin,
        alpha=alpha,
        positive_temperature=positive_temperature,
        negative_temperature=negative_temperature,
        imbalance=imbalance,
    )


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
    """Another loss plus hinges at one similarity for all classes, so that one threshold suits them.

    The hinges go over all pairs of the batch, whatever the other loss mines.
    """
    from oodml.train.losses import hinges
    from oodml.train.losses.added import Added
    from oodml.train.methods.parts.over_pairs import OverPairs, cosines

    regularizer = OverPairs(
        cosines,
        hinges.threshold_consistent,
        positive_margin=positive_margin,
        negative_margin=negative_margin,
        positive_weight=positive_weight,
        negative_weight=negative_weight,
    )
    return Added(base, num_classes, embedding_dim, regularizer, weight)


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
    """Another loss plus the spread of the positives' and of the negatives' similarities."""
    from pytorch_metric_learning import losses

    from oodml.train.losses.added import Added

    regularizer = losses.IntraPairVarianceLoss(positive_epsilon, negative_epsilon)
    return Added(base, num_classes, embedding_dim, regularizer, weight)
