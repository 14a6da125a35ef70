"""Two views of an image told from the views of other images, kept in a queue."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oodml.train.registry import method

if TYPE_CHECKING:
    from oodml.train.objective import MakeObjective


@method(
    "moco",
    paper="arXiv:1911.05722",
    source="arXiv:1911.05722; memory_size, there 65536 for a million images, chosen here",
    needs="two views",
    cached_views=4,
)
def moco(
    num_classes: int,
    embedding_dim: int,
    *,
    momentum: float = 0.999,
    temperature: float = 0.07,
    memory_size: int = 4096,
    supervised: bool = False,
) -> MakeObjective:
    """MoCo: two views of an image drawn together, and away from a queue of other images' views.

    Images of the query's class are never negatives; `supervised` makes them positives. BatchNorm
    is not shuffled between the processes, so keep it frozen, as runs do unless told otherwise.
    """
    from oodml.train.momentum_contrast import MomentumContrast

    return partial(
        MomentumContrast,
        momentum=momentum,
        temperature=temperature,
        memory_size=memory_size,
        supervised=supervised,
    )
