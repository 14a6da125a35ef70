"""Several embeddings of one network: a loss on each, and adversaries that decorrelate them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.methods.parts.mining import (
    DistanceWeighted,
    TripletMiner,
    Triplets,
    draw,
    unit_distances,
)
from oodml.train.model import EmbeddingModel
from oodml.train.objective import (
    Criterion,
    Encoded,
    Objective,
    ParameterGroup,
    groups,
    trainable,
)

# The weight decay of the regressors and the dimension of the embeddings in arXiv:1909.11574.
REGRESSOR_DECAY = 1e-6
PUBLISHED_DIMENSION = 128
HIDDEN = 512


class SeveralHeads(Objective):
    """A loss on the class embedding, further losses on other embeddings, and adversaries.

    `sizes` are the dimensions of the embeddings, the class embedding first; `others` are the
    criteria of the rest. One adversary for each of the rest decorrelates it from the class
    embedding.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        others: Sequence[Criterion],
        sizes: Sequence[int],
        decorrelation: float,
    ) -> None:
        super().__init__(spec, model, criterion)
        self.others = tuple(others)
        # A ModuleList, so that their parameters and buffers are saved and moved with the objective.
        self.other_criteria = nn.ModuleList(others)
        self.adversaries = nn.ModuleList(Adversary(size, sizes[0]) for size in sizes[1:])
        self.decorrelation = decorrelation * (sizes[0] / PUBLISHED_DIMENSION) ** 2

    def parameter_groups(self) -> list[ParameterGroup]:
        """The base's groups, the other criteria at the criterion's rate, and the adversaries."""
        spec = self.spec
        return super().parameter_groups() + groups(
            ParameterGroup(
                trainable(self.other_criteria), spec.training.criterion_learning_rate, 0.0
            ),
            ParameterGroup(
                trainable(self.adversaries), spec.training.learning_rate, REGRESSOR_DECAY
            ),
        )

    def shared_content(self, own: Encoded, others: Sequence[Encoded]) -> Tensor | float:
        """The sum of the adversaries' losses times their weight, which depends on the dimension."""
        if not self.decorrelation:
            return 0.0
        losses = [
            adversary(own.embedding, other.embedding)
            for adversary, other in zip(self.adversaries, others, strict=True)
        ]
        return self.decorrelation * torch.stack(losses).sum()


class TwoHeads(SeveralHeads):
    """A class embedding, which retrieval uses, and a second embedding of the same size."""

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        other: Criterion,
        decorrelation: float,
    ) -> None:
        size = model.embedding_dim
        super().__init__(
            spec,
            model,
            criterion=criterion,
            others=[other],
            sizes=[size, size],
            decorrelation=decorrelation,
        )
        self.second = nn.Linear(model.dimension, size)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The groups of all heads, the second head at the first one's rate."""
        spec = self.spec
        return super().parameter_groups() + groups(
            ParameterGroup(
                trainable(self.second), spec.training.learning_rate, spec.training.weight_decay
            )
        )

    def second_of(self, encoded: Encoded) -> Encoded:
        """The second head's embedding of an encoded batch."""
        return Encoded.of(encoded.pooled, self.second(encoded.pooled))


class Adversary(nn.Module):
    """A regressor from one embedding to another, whose loss measures what they have in common.

    The regressor minimises the loss, which finds what the embeddings have in common; gradient
    reversal makes the embeddings maximise it, which removes that. One backward pass trains both
    sides (arXiv:1909.11574, arXiv:2004.13458).
    """

    def __init__(self, source: int, target: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Linear(source, hidden), nn.ReLU(), nn.Linear(hidden, target)
        )

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Minus the mean squared product of target (B, d) and its regression from source (B, s).

        Both are unit vectors; the regression is normalised. The mean is over dimensions too, so the
        value is at most 0 and shrinks like 1/d^2.
        """
        regressed = functional.normalize(self.regressor(reverse_gradient(source)), dim=1)
        return -(reverse_gradient(target) * regressed).square().mean()


def reverse_gradient(inputs: Tensor) -> Tensor:
    """The inputs unchanged, of any shape; the backward pass negates their gradient.

    Source: arXiv:1505.07818.
    """
    reversed_inputs: Tensor = _Reversed.apply(inputs)
    return reversed_inputs


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        return inputs.view_as(inputs)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class SharedByClasses(Criterion):
    """A loss over triplets, applied to triplets of three different classes.

    A boundary of the loss belongs to the anchor's class. With `permuted` the labels of the batch
    are permuted, once for miner and boundaries together, so that samples of one permuted label
    attract each other (as in the code of arXiv:2004.13458, which lets true classes coincide).
    """

    def __init__(self, base: Criterion, permuted: bool) -> None:
        super().__init__(normalized=base.normalized)
        self.base = base
        self.across_classes = AcrossClasses()
        self.permuted = permuted

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The scalar loss of unit-length embeddings (B, D)."""
        groups = None
        if self.permuted:
            groups = labels[torch.randperm(len(labels)).to(labels.device)]
        triplets = self.across_classes(embeddings.detach(), labels, groups)
        value: Tensor = self.base(embeddings, labels if groups is None else groups, triplets)
        return value


class AcrossClasses(TripletMiner):
    """One triplet per anchor, of samples of three different classes (arXiv:2004.05582).

    The positive is any sample of another class, the negative a distance-weighted one of a third
    class. With `groups`, labels that are not the true ones, the positive has the anchor's group and
    the negative another one; the three true classes still differ.
    """

    def __init__(self, cutoff: float = 0.5, upper: float = 2.0) -> None:
        super().__init__()
        self.weighted = DistanceWeighted(cutoff, upper)

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor, groups: Tensor | None = None) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        distances = unit_distances(embeddings)
        other = labels[:, None] != labels[None, :]
        alike = other if groups is None else other & (groups[:, None] == groups[None, :])
        anchors = torch.nonzero(alike.any(1)).flatten()
        if not len(anchors):
            return anchors, anchors, anchors
        positives = draw(alike[anchors])
        allowed = other[anchors] & other[positives] & (distances[anchors] < self.weighted.upper)
        if groups is not None:
            allowed &= groups[anchors][:, None] != groups[None, :]
        kept = allowed.any(1)
        anchors, positives, allowed = anchors[kept], positives[kept], allowed[kept]
        if not len(anchors):
            return anchors, anchors, anchors
        logits = self.weighted.log_weights(distances[anchors], embeddings.shape[1])
        weights = functional.softmax(logits.masked_fill(~allowed, -torch.inf), dim=1)
        return anchors, positives, torch.multinomial(weights, 1).flatten()
