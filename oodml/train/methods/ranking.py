"""Losses that smooth a measure of the whole ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oodml.errors import unknown_name
from oodml.train.published import reality_check
from oodml.train.registry import method

if TYPE_CHECKING:
    from oodml.train.methods.parts.over_pairs import OverPairs
    from oodml.train.objective import Criterion


@method(
    "fast_ap",
    paper="10.1109/CVPR.2019.00196",
    source="pytorch-metric-learning",
    recipes={
        "cub200": reality_check(bins=17),
        "cars196": reality_check(bins=27),
        "sop": reality_check(bins=16),
    },
)
def fast_ap(num_classes: int, embedding_dim: int, *, bins: int = 10) -> Criterion:
    """FastAP: average precision from soft histograms of squared distances on the unit sphere."""
    from pytorch_metric_learning import losses

    from oodml.train.objective import Criterion

    return Criterion(losses.FastAPLoss(bins), takes_pairs=True)


@method("smooth_ap", paper="arXiv:2007.12163", source="arXiv:2007.12163")
def smooth_ap(num_classes: int, embedding_dim: int, *, temperature: float = 0.01) -> OverPairs:
    """Smooth-AP: average precision with every comparison of two similarities a sigmoid."""
    from oodml.train.losses import ranking
    from oodml.train.methods.parts.over_pairs import OverPairs, cosines

    return OverPairs(cosines, ranking.smooth_average_precision, temperature=temperature)


@method("pnp", paper="arXiv:2102.04640", source="pytorch-metric-learning")
def pnp(
    num_classes: int,
    embedding_dim: int,
    *,
    temperature: float = 0.01,
    penalty: str = "O",
    alpha: float = 1.0,
    base: float = 2.0,
) -> OverPairs:
    """PNP: penalise the negatives that stand before a positive, and nothing else.

    `penalty` is the paper's name of the function of their number: O, Iu, Ib (with `base`), Ds or
    Dq (with `alpha`).
    """
    from oodml.train.losses import ranking
    from oodml.train.methods.parts.over_pairs import OverPairs, cosines

    if penalty not in ranking.PENALTIES:
        raise unknown_name("penalty", penalty, ranking.PENALTIES)
    return OverPairs(
        cosines,
        ranking.penalized_negatives,
        temperature=temperature,
        penalty=penalty,
        alpha=alpha,
        base=base,
    )


@method("histogram", paper="arXiv:1611.00822", source="pytorch-metric-learning")
def histogram(num_classes: int, embedding_dim: int, *, bins: int = 100) -> OverPairs:
    """Histogram loss: the chance that a negative pair is more similar than a positive pair."""
    from oodml.train.losses import ranking
    from oodml.train.methods.parts.over_pairs import OverPairs, cosines

    return OverPairs(cosines, ranking.histogram, bins=bins)
