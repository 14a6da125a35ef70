"""Division of the data and of the embedding: a learner for every cluster of training samples."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oodml.errors import UsageError, unknown_name
from oodml.train.registry import Base, Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import MakeObjective


MASKS = ("learned", "fixed")


@method(
    "divide_and_conquer",
    paper="arXiv:1906.05990",
    source="arXiv:1906.05990, its code; joint, and 4 clusters, chosen here",
    heads="4 slices, one a cluster; all retrieve",
    needs="clusters of the training data",
    recipes={
        "sop": Recipe(
            "arXiv:1906.05990, its code",
            {"clusters": 8},
            {"batch_size": 80, "samples_per_class": 4, "weight_decay": 1e-4},
        )
    },
)
def divide_and_conquer(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("margin"),  # noqa: B008 (a frozen record)
    clusters: int = 4,
    period: int = 2,
    joint: float = 0.5,
) -> MakeObjective:
    """Divide and conquer: a slice of the embedding for each cluster of the training samples.

    The pooled features are clustered every `period` epochs; the last `joint` share of the training
    is for the whole embedding. Clusters keep their slices by an assignment to the clusters before.
    The paper holds the margin loss's boundary fixed; here it is learned as in the base.
    """
    from oodml.train.objective import as_criterion
    from oodml.train.slice_learners import SliceLearners
    from oodml.train.slices import slice_sizes

    _check("divide_and_conquer", clusters, period, joint)
    sizes = slice_sizes(embedding_dim, [1] * clusters)
    whole = as_criterion(base.criterion(num_classes, embedding_dim))
    apart = sizes if clusters > 1 else []
    return partial(
        SliceLearners,
        criterion=whole,
        criteria=[as_criterion(base.criterion(num_classes, size)) for size in apart],
        sizes=sizes,
        period=period,
        joint=joint,
    )


@method(
    "hierarchical_divide_and_conquer",
    paper="arXiv:2109.04003",
    source="arXiv:2109.04003, its code; period, joint, freeze and 4 clusters chosen here",
    heads="one, under a mask a cluster; retrieves without",
    needs="clusters of the training data",
    recipes={
        "sop": Recipe(
            "arXiv:2109.04003, its code",
            {"clusters": 32, "period": 2, "freeze": 1, "joint": 0.55},
            {"batch_size": 80, "samples_per_class": 2, "weight_decay": 1e-4},
        )
    },
)
def hierarchical_divide_and_conquer(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("margin"),  # noqa: B008 (a frozen record)
    clusters: int = 4,
    period: int = 1,
    joint: float = 0.4,
    freeze: int = 0,
    masks: str = "learned",
    mask_rate: float = 1e-3,
    orthogonality: float = 0.01,
) -> MakeObjective:
    """Hierarchical divide and conquer: clusters halved again and again, a learned mask for each.

    Training begins with one cluster; every `period` epochs the samples are clustered anew and the
    clusters halved until there are `clusters`, a power of two. The last `joint` share trains the
    embedding without masks. Whole networks rest their trunk for `freeze` epochs after new clusters
    (the paper: 1 of a period of 2). `masks` are "learned", at `mask_rate`, or "fixed": halves,
    quarters, ... of the embedding. `orthogonality` weighs the mean cosine of two masks. The margin
    loss learns its boundary, as in `divide_and_conquer`.
    """
    from oodml.train.methods.hierarchical_divide_and_conquer import MaskLearners
    from oodml.train.objective import as_criterion

    _check("hierarchical_divide_and_conquer", clusters, period, joint)
    depth = clusters.bit_length() - 1
    if clusters != 2**depth:
        raise UsageError(
            f"hierarchical_divide_and_conquer: clusters={clusters} is no power of two; "
            f"give {2**depth} or {2 ** (depth + 1)}."
        )
    if masks not in MASKS:
        raise unknown_name("kind of masks", masks, MASKS)
    return partial(
        MaskLearners,
        criterion=as_criterion(base.criterion(num_classes, embedding_dim)),
        depth=depth,
        period=period,
        joint=joint,
        freeze=freeze,
        masks=masks,
        mask_rate=mask_rate,
        overlap_weight=orthogonality,
    )


def _check(name: str, clusters: int, period: int, joint: float) -> None:
    if clusters < 1 or period < 1:
        raise UsageError(f"{name}: clusters={clusters}, period={period}: give 1 or more of both.")
    if not 0 <= joint <= 1:
        raise UsageError(f"{name}: joint={joint} is no share of the training: give 0 to 1.")
