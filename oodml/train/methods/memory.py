"""A memory of past embeddings, on top of any loss over pairs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oodml.errors import UsageError
from oodml.train.registry import Base, Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import MakeObjective


@method(
    "xbm",
    paper="arXiv:1912.06798",
    source="memory_size and warmup chosen here for short runs; the rest arXiv:1912.06798",
    # All that a recipe of the base may set: the settings of two papers are not to be mixed.
    network={
        "batch_size": 64,
        "samples_per_class": 4,
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 5e-4,
        "crop_scale": 0.08,
    },
    recipes={"sop": Recipe("arXiv:1912.06798", {"memory_size": 55000})},
)
def xbm(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("contrastive"),  # noqa: B008 (a frozen record)
    weight: float = 1.0,
    memory_size: int = 1024,
    warmup: float = 0.1,
) -> MakeObjective:
    """XBM: a loss over pairs, also between the batch and a queue of past embeddings.

    `warmup` is a share of the run's steps. A base with a miner mines among batch and queue
    together, which takes (batch + memory_size)^2 numbers.
    """
    from oodml.train.cross_batch_memory import CrossBatchMemory
    from oodml.train.losses.memory import compares_with_references
    from oodml.train.objective import as_criterion

    criterion = as_criterion(base.criterion(num_classes, embedding_dim))
    if not compares_with_references(criterion.loss, embedding_dim):
        raise UsageError(
            f"xbm: base={base.name} compares no batch with a queue; give a loss over pairs, such "
            "as contrastive."
        )
    return partial(
        CrossBatchMemory,
        criterion=criterion,
        weight=weight,
        memory_size=memory_size,
        warmup=warmup,
    )
