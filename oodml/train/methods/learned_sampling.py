"""Negatives drawn as a policy learns to, from how well training goes on a hold-out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oodml.errors import UsageError
from oodml.train.registry import Base, Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import (
        Criterion,
        MakeObjective,
    )


_SOURCE = "arXiv:2003.11113 and the runs published with its code"


def factors_in(text: str) -> list[float]:
    """The numbers above 0 of "0.8-1-1.25"; `UsageError` for anything else."""
    try:
        factors = [float(part) for part in text.split("-")]
    except ValueError:
        factors = []
    if not factors or not all(0 < factor < float("inf") for factor in factors):
        raise UsageError(f"pads: actions={text!r}: write factors above 0 as 0.8-1-1.25.")
    return factors


def _check(every: int, holdout: float, holdout_size: int, refresh: int) -> None:
    if every < 1 or refresh < 1:
        raise UsageError(f"pads: every={every}, refresh={refresh}: give 1 or more.")
    if not 0 < holdout < 1:
        raise UsageError(f"pads: holdout={holdout}: give a share of the training samples.")
    if holdout_size < 4:
        raise UsageError(f"pads: holdout_size={holdout_size}: give 4 samples or more.")


def _mines_triplets(criterion: Criterion) -> bool:
    import torch
    from torch.nn import functional

    if criterion.miner is None:
        return False
    points = functional.normalize(torch.eye(4) + 0.5, dim=1)
    return len(criterion.miner(points, torch.tensor([0, 0, 1, 1]))) == 3


@method(
    "pads",
    paper="arXiv:2003.11113",
    source=f"{_SOURCE}, CUB200-2011; every and holdout_size chosen here for short runs",
    needs="hold-out of the training data, private optimiser",
    recipes={
        "cub200": Recipe(
            _SOURCE,
            {"base.beta": 0.6, "every": 30},
            {"criterion_learning_rate": 1e-3, "samples_per_class": 2},
        ),
        "cars196": Recipe(
            _SOURCE,
            {"base.beta": 0.6, "every": 30, "holdout": 0.1, "nmi": True},
            {"criterion_learning_rate": 5e-4, "samples_per_class": 4},
        ),
        "sop": Recipe(
            _SOURCE,
            {"base.beta": 1.2, "every": 60, "holdout": 0.1, "nmi": True},
            {"criterion_learning_rate": 1e-3, "samples_per_class": 2},
        ),
    },
)
def pads(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("margin"),  # noqa: B008 (a frozen record)
    actions: str = "0.8-1-1.25",
    every: int = 4,
    holdout: float = 0.15,
    holdout_size: int = 512,
    self_regularized: bool = True,
    policy_learning_rate: float = 0.01,
    refresh: int = 5,
    nmi: bool = False,
) -> MakeObjective:
    """PADS: negatives drawn by their distance, from a histogram that a policy keeps adjusting.

    The policy is rewarded where a hold-out of the training classes is retrieved better than
    `every` steps before: by recall_at_1 or, with `nmi`, its sum with NMI. The hold-out is a share
    `holdout` of every training class, at least two samples and at most `holdout_size` in all;
    the paper takes all of it. For long runs of whole networks the paper's `every` is 30, or 60
    with many classes. `self_regularized` leaves positives and the anchor itself among the
    negatives.
    """
    from oodml.train.methods.pads import LearnedSampling
    from oodml.train.mining.histogram import Histogram
    from oodml.train.objective import as_criterion

    _check(every, holdout, holdout_size, refresh)
    criterion = as_criterion(base.criterion(num_classes, embedding_dim))
    if not _mines_triplets(criterion):
        raise UsageError(
            f"pads: base={base.name} is no loss over mined triplets; give one, such as margin."
        )
    return partial(
        LearnedSampling,
        criterion=criterion,
        histogram=Histogram(self_regularized),
        factors=factors_in(actions),
        every=every,
        holdout=holdout,
        holdout_size=holdout_size,
        learning_rate=policy_learning_rate,
        refresh=refresh,
        nmi=nmi,
    )
