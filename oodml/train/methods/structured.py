"""Losses that set every positive pair against all negatives of the batch at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oodml.train.published import REVISITING, reality_check
from oodml.train.registry import Recipe, method

if TYPE_CHECKING:
    from oodml.train.methods.parts.over_pairs import OverPairs
    from oodml.train.objective import Criterion


_FAMILIES = ("cub200", "cars196", "sop")


@method("lifted_structure", paper="arXiv:1511.06452", source="arXiv:1511.06452")
def lifted_structure(num_classes: int, embedding_dim: int, *, margin: float = 1.0) -> OverPairs:
    """Lifted structure: both ends of a positive pair against all their negatives.

    All negatives take part; the paper draws hard ones.
    """
    from oodml.train.losses import exponentials
    from oodml.train.methods.parts.over_pairs import OverPairs, distances

    return OverPairs(distances, exponentials.lifted_structure, within=True, margin=margin)


@method(
    "generalized_lifted_structure",
    paper="arXiv:1703.07737",
    source="arXiv:1703.07737",
    recipes=dict.fromkeys(
        _FAMILIES, Recipe(REVISITING, {"normalized": False, "regularizer": 0.005})
    ),
)
def generalized_lifted_structure(
    num_classes: int,
    embedding_dim: int,
    *,
    margin: float = 1.0,
    normalized: bool = True,
    regularizer: float = 0.0,
) -> Criterion:
    """Generalised lifted structure: all positives of an anchor against all its negatives.

    Without `normalized` it compares the head's outputs as they are and `regularizer` weighs their
    mean length; evaluation takes unit-length embeddings all the same.
    """
    from oodml.train.losses import exponentials
    from oodml.train.losses.lengths import WithLengths
    from oodml.train.methods.parts.over_pairs import OverPairs, distances
    from oodml.train.objective import Criterion

    loss = OverPairs(distances, exponentials.generalized_lifted_structure, margin=margin)
    return Criterion(WithLengths(loss, regularizer), normalized=normalized, takes_references=True)


@method(
    "n_pair",
    paper="10.5555/3157096.3157304",
    source=REVISITING,
    samples_per_class=2,
)
def n_pair(num_classes: int, embedding_dim: int, *, regularizer: float = 0.005) -> Criterion:
    """N-pair loss: one pair a class, cross-entropy over inner products of raw outputs.

    `regularizer` weighs the mean squared length of the outputs; the weight is that of
    arXiv:2002.08473, which takes the length itself.
    """
    from oodml.train.losses.n_pair import NPair
    from oodml.train.mining import OnePairPerClass
    from oodml.train.objective import Criterion

    return Criterion(NPair(regularizer), OnePairPerClass(), normalized=False)


@method("angular", paper="arXiv:1708.01682", source=REVISITING, samples_per_class=2)
def angular(
    num_classes: int,
    embedding_dim: int,
    *,
    alpha: float = 45.0,
    weight: float = 2.0,
    regularizer: float = 0.005,
) -> Criterion:
    """Angular loss (angle in degrees) of the directions, on top of the N-pair loss."""
    from oodml.train.losses.n_pair import AngularNPair
    from oodml.train.mining import OnePairPerClass
    from oodml.train.objective import Criterion

    loss = AngularNPair(alpha, weight, regularizer)
    return Criterion(loss, OnePairPerClass(), normalized=False)


@method(
    "nt_xent",
    paper="arXiv:2002.05709",
    source="pytorch-metric-learning",
    recipes={
        "cub200": reality_check(temperature=0.0091),
        "cars196": reality_check(temperature=0.0219),
        "sop": reality_check(temperature=0.0002),
    },
)
def nt_xent(num_classes: int, embedding_dim: int, *, temperature: float = 0.07) -> OverPairs:
    """NT-Xent: each positive pair by itself against the anchor's negatives, in a softmax."""
    from oodml.train.losses import exponentials
    from oodml.train.methods.parts.over_pairs import OverPairs, cosines

    return OverPairs(cosines, exponentials.nt_xent, temperature=temperature)


@method("sup_con", paper="arXiv:2004.11362", source="arXiv:2004.11362")
def sup_con(num_classes: int, embedding_dim: int, *, temperature: float = 0.1) -> Criterion:
    """Supervised contrastive loss: all positives of an anchor in one softmax with the others."""
    from pytorch_metric_learning import losses

    from oodml.train.objective import Criterion

    return Criterion(losses.SupConLoss(temperature), takes_references=True)


@method(
    "tuplet_margin",
    paper="10.1109/ICCV.2019.00659",
    source="pytorch-metric-learning",
)
def tuplet_margin(
    num_classes: int, embedding_dim: int, *, margin: float = 0.1, scale: float = 64.0
) -> OverPairs:
    """Tuplet margin loss: a softmax over angles, positives with a slack angle (radians)."""
    from oodml.train.losses import exponentials
    from oodml.train.methods.parts.over_pairs import OverPairs, cosines

    return OverPairs(cosines, exponentials.tuplet_margin, margin=margin, scale=scale)


@method(
    "neighbourhood_components",
    paper="10.5555/2976040.2976105",
    source="pytorch-metric-learning",
)
def neighbourhood_components(
    num_classes: int, embedding_dim: int, *, scale: float = 1.0
) -> OverPairs:
    """NCA's objective on batches: the chance that a soft neighbour is of the same class.

    `scale` multiplies the squared distances, which the linear method learns with its matrix.
    """
    from oodml.train.losses import exponentials
    from oodml.train.methods.parts.over_pairs import OverPairs, squared_distances

    return OverPairs(squared_distances, exponentials.neighbourhood_components, scale=scale)
