"""Ensembles within one network: learners that are slices of one embedding."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oodml.errors import unknown_name
from oodml.train.registry import method

if TYPE_CHECKING:
    from oodml.train.objective import MakeObjective


_CODE = "arXiv:1801.04815, its code"


@method(
    "bier",
    paper="arXiv:1801.04815",
    source=f"{_CODE}, Stanford Online Products",
    heads="3 growing slices, boosted; all retrieve",
    network={"batch_size": 128, "weight_decay": 2e-4},
)
def bier(
    num_classes: int,
    embedding_dim: int,
    *,
    heads: str = "3-5-8",
    alpha: float = 2.0,
    beta: float = 0.5,
    cost: float = 25.0,
    boosting: str = "shrinkage",
    shrinkage: float = 0.06,
    decorrelation: str = "adversarial",
    diversity: float = 5e-5,
    length_weight: float = 1e5,
    head_rate: float = 10.0,
) -> MakeObjective:
    """BIER: learners in growing slices, each taught most on pairs that those before it got wrong.

    `heads` is the ratio of the slices. `boosting` is the "shrinkage" form or the "eta" form of the
    pairs' weights. `diversity` weighs the `decorrelation`, "adversarial" or "activation", and
    `length_weight` within it how firmly the weights of each unit are held at unit length, those of
    the regressors and of the heads. Where the trunk is trained, the heads learn `head_rate` times
    as fast. Means over positives leave out the pairs of a sample with itself, which the code
    counts; the weights into a unit are held, where the code of the adversary takes those out of an
    input.
    """
    from oodml.train.losses.boosted import BoostedDeviance
    from oodml.train.methods.bier import DECORRELATIONS, BoostedLearners
    from oodml.train.objective import Criterion
    from oodml.train.slices import shares_in, slice_sizes

    if decorrelation not in DECORRELATIONS:
        raise unknown_name("decorrelation", decorrelation, DECORRELATIONS)
    sizes = slice_sizes(embedding_dim, shares_in(heads))
    deviance = BoostedDeviance(
        sizes, alpha=alpha, beta=beta, cost=cost, form=boosting, shrinkage=shrinkage
    )
    return partial(
        BoostedLearners,
        criterion=Criterion(deviance),
        sizes=sizes,
        decorrelation=decorrelation,
        diversity=diversity,
        length_weight=length_weight,
        head_rate=head_rate,
    )
