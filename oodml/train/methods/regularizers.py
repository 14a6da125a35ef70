"""Regularisers of the features, on top of any loss."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oodml.train.registry import Base, Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import MakeObjective


_STUDY = "arXiv:2107.09562, scripts of the published study"


@method(
    "uniform_prior",
    paper="arXiv:2006.16524",
    source=_STUDY,
    recipes={
        "cub200": Recipe(_STUDY),
        "cars196": Recipe(_STUDY),
        "sop": Recipe(_STUDY, {"weight": 0.02, "every": 200, "hidden": 50}),
    },
)
def uniform_prior(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("margin"),  # noqa: B008 (a frozen record)
    weight: float = 0.2,
    every: int = 10,
    hidden: int = 100,
    on: str = "auto",
) -> MakeObjective:
    """Uniform prior: a loss, and a discriminator that features should look uniform to.

    `on` is "pooled" (the trunk's features in pieces of 128, as the study has it; those of a ReLU
    are never negative and cannot become uniform), "output" (what the head makes of them), or
    "auto": pooled where the trunk is trained, else the output, which alone can be moved then.
    """
    from oodml.train.objective import as_criterion
    from oodml.train.uniform_prior import UniformPrior

    criterion = as_criterion(base.criterion(num_classes, embedding_dim))
    return partial(
        UniformPrior, criterion=criterion, weight=weight, every=every, hidden=hidden, on=on
    )
