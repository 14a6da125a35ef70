"""Losses that compare every positive pair with all negatives of the batch.

An anchor's pairs are weighted by exponentials: the hardest pairs count most. Values and masks are
matrices (B, R), anchors by references.
"""

from __future__ import annotations

import math

import torch
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn import functional

from oodml.train.methods.parts.mining import OnePairPerClass
from oodml.train.methods.parts.over_pairs import (
    OverPairs,
    SoftmaxOfPairs,
    cosines,
    distances,
    log_sum_exp,
    mean_where,
    squared_distances,
)
from oodml.train.objective import Criterion
from oodml.train.published_protocols import REVISITING
from oodml.train.registry import method


@method("lifted_structure", paper="arXiv:1511.06452", source="arXiv:1511.06452")
class LiftedStructure(OverPairs):
    """Lifted structure: each positive pair against all negatives of both its samples.

    Half the mean of [J]+^2 over positive pairs, J_ij = D_ij + log(sum_k exp(m - D_ik) + sum_k exp(m
    - D_jk)), k over the negatives of i and of j. All negatives take part; the paper samples hard
    ones.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 1.0) -> None:
        super().__init__(distances, within=True)
        self.margin = margin

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Half the mean squared hinge over positive pairs."""
        push = log_sum_exp(self.margin - values, negative)
        hardness = values + torch.logaddexp(push[:, None], push[None, :])
        return mean_where(functional.relu(hardness).square() / 2, positive)


@method(
    "generalized_lifted_structure",
    paper="arXiv:1703.07737",
    source="arXiv:1703.07737",
)
class GeneralizedLiftedStructure(OverPairs):
    """Generalised lifted structure: all positives of an anchor against all its negatives.

    Mean over anchors of [log sum_p exp D_ap + log sum_n exp(m - D_an)]+. Without `normalized` it
    compares the head's unnormalised outputs, and `regularizer` weights their mean length; retrieval
    uses unit-length embeddings in either case.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        margin: float = 1.0,
        normalized: bool = True,
        regularizer: float = 0.0,
    ) -> None:
        super().__init__(distances, normalized=normalized)
        self.margin, self.regularizer = margin, regularizer

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean hinge over anchors that have positives and negatives."""
        pull = log_sum_exp(values, positive)
        push = log_sum_exp(self.margin - values, negative)
        anchors = positive.any(1) & negative.any(1)
        return mean_where(functional.relu(pull + push), anchors)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        tuples: tuple[Tensor, ...] | None = None,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
    ) -> Tensor:
        """The scalar loss of embeddings (B, D), plus their weighted mean length."""
        value = super().forward(embeddings, labels, tuples, references, reference_labels)
        return value + self.regularizer * mean_length(embeddings)


def mean_length(outputs: Tensor) -> Tensor:
    """The mean over a batch of the lengths of vectors (B, D)."""
    length: Tensor = torch.linalg.vector_norm(outputs, dim=1).mean()
    return length


@method(
    "n_pair",
    paper="10.5555/3157096.3157304",
    source=REVISITING,
    samples_per_class=2,
)
class NPair(Criterion):
    """N-pair loss: one pair per class, cross-entropy over inner products of unnormalised outputs.

    Each anchor's own positive competes with the positives of the other classes. `regularizer`
    weights the mean length of the outputs, with form and value of the code of arXiv:2002.08473; the
    paper has the squared length.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, regularizer: float = 0.005) -> None:
        super().__init__(miner=OnePairPerClass(), normalized=False)
        self.cross_entropy = SoftmaxOfPairs(temperature=1.0)
        self.regularizer = regularizer

    def forward(self, embeddings: Tensor, labels: Tensor, tuples: tuple[Tensor, ...]) -> Tensor:
        """The scalar loss of unnormalised outputs (B, D) and the miner's pairs."""
        value: Tensor = self.cross_entropy(embeddings, labels, tuples)
        return value + self.regularizer * mean_length(embeddings)


@method("angular", paper="arXiv:1708.01682", source=REVISITING, samples_per_class=2)
class AngularNPair(NPair):
    """Angular loss: a bound on the angle at the negative (degrees), added to the N-pair loss.

    `weight` is that of the angular loss, which is over all positive pairs of the batch with all
    negatives of each, on unit vectors.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        alpha: float = 45.0,
        weight: float = 2.0,
        regularizer: float = 0.005,
    ) -> None:
        super().__init__(num_classes, embedding_dim, regularizer=regularizer)
        # pytorch-metric-learning does not normalise the negatives, so it is given unit vectors.
        self.angular = losses.AngularLoss(alpha)
        self.weight = weight

    def forward(self, embeddings: Tensor, labels: Tensor, tuples: tuple[Tensor, ...]) -> Tensor:
        """The scalar loss of unnormalised outputs (B, D) and the miner's pairs."""
        value = super().forward(embeddings, labels, tuples)
        angular: Tensor = self.angular(functional.normalize(embeddings, dim=1), labels)
        return value + self.weight * angular


@method(
    "nt_xent",
    paper="arXiv:2002.05709",
    source="pytorch-metric-learning",
)
def nt_xent(num_classes: int, embedding_dim: int, *, temperature: float = 0.07) -> SoftmaxOfPairs:
    """NT-Xent: softmax cross-entropy of each positive pair against the anchor's negatives."""
    return SoftmaxOfPairs(temperature=temperature)


@method("sup_con", paper="arXiv:2004.11362", source="arXiv:2004.11362")
def sup_con(num_classes: int, embedding_dim: int, *, temperature: float = 0.1) -> Criterion:
    """Supervised contrastive loss: mean log-softmax of an anchor's positives among all others."""
    return Criterion(losses.SupConLoss(temperature), takes_references=True)


@method(
    "tuplet_margin",
    paper="10.1109/ICCV.2019.00659",
    source="pytorch-metric-learning",
)
class TupletMargin(OverPairs):
    """Tuplet margin loss: softmax over scaled cosines, with a slack angle (radians) for positives.

    Mean over positive pairs of log(1 + sum_n exp(scale (cos t_an - cos(t_ap - margin)))): pairs
    closer than the slack angle are not pulled closer.
    """

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.1, scale: float = 64.0
    ) -> None:
        super().__init__(cosines)
        self.margin, self.scale = margin, scale

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean loss over positive pairs."""
        # cos(t - m) = cos t cos m + sin t sin m; the floor keeps the gradient finite at 0.
        sines = (1 - values.square()).clamp(min=1e-6).sqrt()
        eased = values * math.cos(self.margin) + sines * math.sin(self.margin)
        against = log_sum_exp(self.scale * values, negative)
        return mean_where(functional.softplus(against[:, None] - self.scale * eased), positive)


@method(
    "neighbourhood_components",
    paper="10.5555/2976040.2976105",
    source="pytorch-metric-learning",
)
class NeighbourhoodComponents(OverPairs):
    """NCA: minus the log-probability that a soft nearest neighbour in the batch shares the class.

    `scale` multiplies the squared distances; the linear method `nca` learns it with its matrix. The
    loss is the mean over anchors that have a positive.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, scale: float = 1.0) -> None:
        super().__init__(squared_distances)
        self.scale = scale

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean loss over anchors that have a positive."""
        logits = -self.scale * values
        chance = log_sum_exp(logits, positive | negative) - log_sum_exp(logits, positive)
        return mean_where(chance, positive.any(1))
