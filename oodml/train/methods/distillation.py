"""Distillation from richer embeddings of the same network, on top of any loss."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oodml.errors import UsageError
from oodml.train.registry import Base, Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import MakeObjective


_STUDY = "arXiv:2107.09562, scripts of the published study"
# Beside a head of 512.
_TARGETS = {"targets": "1024-1536-2048"}


def sizes_in(text: str) -> list[int]:
    """The numbers of "512-1024-2048"; none of "". `UsageError` for anything else."""
    parts = text.split("-") if text else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"s2sd: targets={text!r}: write sizes as 512-1024-2048.")
    return [int(part) for part in parts]


@method(
    "s2sd",
    paper="arXiv:2009.08348",
    source=f"{_STUDY}, CUB200-2011; targets chosen here: 2 and 4 times a head of 128",
    recipes={
        "cub200": Recipe(_STUDY, _TARGETS),
        "cars196": Recipe(_STUDY, {**_TARGETS, "base.rho": 0.3}),
        "sop": Recipe(
            _STUDY,
            {
                **_TARGETS,
                "base": "margin",
                "base.beta": 0.9,
                "weight": 5.0,
                "feature_weight": 5.0,
                "feature_delay": 1000,
            },
            {"batch_size": 104},
        ),
    },
)
def s2sd(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("r_margin"),  # noqa: B008 (a frozen record)
    targets: str = "256-512",
    weight: float = 50.0,
    feature_weight: float = 50.0,
    temperature: float = 1.0,
    feature_delay: int = 0,
) -> MakeObjective:
    """S2SD: a loss on several heads, the small one imitating the similarities of the large ones.

    `targets` are the sizes of the large heads. The papers pool their features by average and
    maximum together; here they are pooled like the base head's.
    """
    from oodml.train.objective import as_criterion
    from oodml.train.self_distillation import SelfDistillation

    sizes = sizes_in(targets)
    return partial(
        SelfDistillation,
        criterion=as_criterion(base.criterion(num_classes, embedding_dim)),
        target_criteria=[as_criterion(base.criterion(num_classes, size)) for size in sizes],
        sizes=sizes,
        weight=weight,
        feature_weight=feature_weight,
        temperature=temperature,
        feature_delay=feature_delay,
    )
