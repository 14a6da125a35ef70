"""Synthetic hard negatives, made in the space of the backbone's features."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oodml.train.registry import Base, Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import MakeObjective


_N_PAIR, _TRIPLET = Base("n_pair"), Base("triplet")


@method(
    "daml",
    paper="10.1109/CVPR.2018.00294",
    source="powerful-benchmarker; weight of the generator's terms, triplets and its rate for short "
    "runs chosen here",
    needs="private optimiser",
    recipes={
        family: Recipe("powerful-benchmarker", {"triplets": 100, "generator_rate": 1e-6})
        for family in ("cub200", "cars196", "sop")
    },
)
def daml(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = _TRIPLET,
    weight: float = 0.1,
    hard: float = 1.0,
    regular: float = 1.0,
    adversarial: float = 1.0,
    margin: float = 0.01,
    triplets: int = 1,
    hidden: int = 0,
    generator_rate: float = 1e-3,
) -> MakeObjective:
    """DAML: a loss over triplets, also with negatives that a generator makes hard.

    `weight` is that of the loss with synthetic negatives, `triplets` of which are made an anchor;
    `hard`, `regular` and `adversarial` weigh the generator's terms, `hidden` its width (0: that of
    the features). Works on cached features as they are, standardised. Retrieval knows real
    features only.
    """
    from oodml.train.methods.daml import AdversarialNegatives
    from oodml.train.methods.parts.synthesis import check_base
    from oodml.train.objective import as_criterion

    criterion = as_criterion(base.criterion(num_classes, embedding_dim))
    check_base(criterion, embedding_dim, "daml", base.name)
    return partial(
        AdversarialNegatives,
        criterion=criterion,
        weight=weight,
        triplets=triplets,
        weights=(hard, regular, adversarial),
        margin=margin,
        hidden=hidden,
        generator_rate=generator_rate,
    )


_CODE = "code of arXiv:1903.05503"


def _published(beta: float, weight_decay: float) -> Recipe:
    settings = {"batch_size": 128, "learning_rate": 7e-5, "weight_decay": weight_decay}
    return Recipe(_CODE, {"beta": beta, "negatives": 0}, settings)


@method(
    "hdml",
    paper="arXiv:1903.05503",
    source=_CODE + "; negatives chosen here for short runs",
    needs="private optimisers",
    recipes={"cub200": _published(5e3, 1e-3), "cars196": _published(1e4, 5e-3)},
)
def hdml(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = _N_PAIR,
    alpha: float = 90.0,
    beta: float = 1e4,
    balance: float = 0.5,
    class_weight: float = 1e4,
    negatives: int = 1,
    hidden: int = 512,
    generator_rate: float = 1e-2,
    classifier_rate: float = 1e-3,
) -> MakeObjective:
    """HDML: a loss over pairs, also on tuples whose negatives are pulled to their anchor.

    `alpha` says how far (0: not at all), `beta` how soon synthetic tuples are trusted (0: never,
    which is the base loss alone; it belongs to the size of batch and features), `balance` and
    `class_weight` what the generator is trained for. Tuples are pairs of one class each with the
    positives of `negatives` others, 0 for all as in the paper, which on cached features costs many
    times what a head does. Works on cached features as they are, standardised; retrieval knows
    real ones only.
    """
    from oodml.train.methods.hdml import HardnessAware
    from oodml.train.methods.parts.synthesis import check_base
    from oodml.train.objective import as_criterion

    criterion = as_criterion(base.criterion(num_classes, embedding_dim))
    check_base(criterion, embedding_dim, "hdml", base.name)
    return partial(
        HardnessAware,
        criterion=criterion,
        num_classes=num_classes,
        alpha=alpha,
        beta=beta,
        balance=balance,
        class_weight=class_weight,
        negatives=negatives,
        hidden=hidden,
        rates=(generator_rate, classifier_rate),
    )
