"""Losses over triplets of a batch, and the rules that choose them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oodml.errors import unknown_name
from oodml.train.published import REVISITING, STUDY, reality_check
from oodml.train.registry import Recipe, method

if TYPE_CHECKING:
    from pytorch_metric_learning import losses
    from torch import nn

    from oodml.train.losses.soft_margin import DynamicSoftMargin
    from oodml.train.objective import Criterion


# No distance on the unit sphere is larger: distances are not cut off from above.
_WIDEST = 2.0


@method(
    "triplet",
    paper="arXiv:1503.03832",
    source="arXiv:1503.03832",
    recipes={
        "cub200": reality_check(mining="all", margin=0.0961),
        "cars196": reality_check(mining="all", margin=0.1190),
        "sop": reality_check(mining="all", margin=0.0451),
    },
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
    """Triplet loss: every anchor nearer to its positive than to its negative, by a margin.

    `mining` is one triplet an anchor, "random", "hard", "semihard", "softhard", "distance"
    (distance-weighted) or "easy_positive", or "all" of the batch. The mean goes over the triplets
    that violate the margin. `squared` compares squared distances, as the first paper does; `soft`
    puts log(1 + e^d) in the hinge's place (arXiv:1703.07737), without the margin.
    """
    from pytorch_metric_learning import losses
    from pytorch_metric_learning.distances import LpDistance

    from oodml.train.objective import Criterion

    loss = losses.TripletMarginLoss(
        margin=0.0 if soft else margin,
        smooth_loss=soft,
        distance=LpDistance(power=2 if squared else 1),
    )
    return Criterion(loss, _miner(mining, margin, squared), takes_references=True)


def _miner(name: str, margin: float, squared: bool) -> nn.Module:
    from oodml.train import mining

    if name == "all":
        return mining.AllTriplets()
    if name == "distance":
        return mining.DistanceWeighted()
    if name == "semihard":
        return mining.TripletPerAnchor(mining.semi_hard(margin), squared)
    if name in mining.RULES:
        return mining.TripletPerAnchor(mining.RULES[name])
    raise unknown_name("mining", name, (*mining.RULES, "all", "semihard", "distance"))


@method(
    "easy_positive",
    paper="arXiv:1904.04370",
    source="arXiv:1904.04370",
)
def easy_positive(
    num_classes: int, embedding_dim: int, *, temperature: float = 0.1, negatives: str = "hard"
) -> Criterion:
    """Easy positives: every anchor near to its closest positive only, by a softmax of two.

    `negatives` are the closest one ("hard", EPHN) or the closest one beyond the positive
    ("semihard", EPSHN).
    """
    from oodml.train import mining
    from oodml.train.losses.exponentials import nt_xent
    from oodml.train.methods.parts.over_pairs import OverPairs, cosines
    from oodml.train.objective import Criterion

    rules = {"hard": mining.easy_positive, "semihard": mining.easy_semi_hard}
    if negatives not in rules:
        raise unknown_name("choice of negatives", negatives, rules)
    loss = OverPairs(cosines, nt_xent, temperature=temperature)
    return Criterion(loss, mining.TripletPerAnchor(rules[negatives]), takes_references=True)


_BETA_RATE = {"criterion_learning_rate": 5e-4}
_MARGIN = Recipe(STUDY, {"margin": 0.2, "beta": 1.2, "upper_cutoff": _WIDEST}, _BETA_RATE)


@method(
    "margin",
    paper="arXiv:1706.07567",
    source="arXiv:1706.07567",
    network=_BETA_RATE,
    recipes=dict.fromkeys(("cub200", "cars196", "sop"), _MARGIN),
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
    """Margin loss, one learned boundary a class, on distance-weighted triplets.

    Positives are pulled inside `beta` - margin and negatives pushed outside `beta` + margin, the
    sum over the number of active terms. `beta` is where the boundaries start, one a class or,
    without `per_class`, one in all; `nu` is the weight of their sum. `upper_cutoff` 2 leaves no
    negative out.
    """
    from oodml.train import mining
    from oodml.train.objective import Criterion

    loss = _boundaries(margin, beta, nu, num_classes if per_class else None)
    return Criterion(loss, mining.DistanceWeighted(cutoff, upper_cutoff), takes_references=True)


def _boundaries(margin: float, beta: float, nu: float, classes: int | None) -> losses.MarginLoss:
    from pytorch_metric_learning import losses

    return losses.MarginLoss(margin, nu, beta, learn_beta=True, num_classes=classes)


def _study(beta: float, rho: float) -> Recipe:
    return Recipe(STUDY, {"beta": beta, "rho": rho}, _BETA_RATE)


@method(
    "r_margin",
    paper="arXiv:2002.08473",
    source=f"{REVISITING}, CUB200-2011",
    network=_BETA_RATE,
    recipes={"cub200": _study(0.6, 0.40), "cars196": _study(0.6, 0.35), "sop": _study(0.9, 0.15)},
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
    """Margin loss where a share of the triplets pushes two samples of one class apart.

    With probability `rho` a triplet (a, p, n) becomes (a, a, p), against classes that collapse to
    points.
    """
    from oodml.train import mining
    from oodml.train.objective import Criterion

    loss = _boundaries(margin, beta, nu, num_classes if per_class else None)
    return Criterion(
        loss,
        mining.Spread(mining.DistanceWeighted(cutoff, upper_cutoff), rho),
        takes_references=True,
    )


@method(
    "dynamic_soft_margin",
    paper="10.1109/ICCV.2019.00306",
    source="pytorch-metric-learning",
)
def dynamic_soft_margin(
    num_classes: int, embedding_dim: int, *, bins: int = 10, momentum: float = 0.01
) -> DynamicSoftMargin:
    """Triplet loss without a margin: a triplet weighs as much as the share of easier ones.

    The share comes from a running histogram of the triplets so far.
    """
    from oodml.train.losses.soft_margin import DynamicSoftMargin

    return DynamicSoftMargin(bins, momentum)
