"""Objectives with several embeddings of one image, each with a loss of its own."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.train.adversary import Adversary
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


class SeveralHeads(Objective):
    """A loss on the embedding of classes, more on other embeddings, and adversaries between.

    `sizes` are the dimensions of the embeddings, that of classes first; `others` are the criteria
    of the rest. One adversary for each of the rest drives it and the embedding of classes apart.
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
        super().__init__(spec, model, replace(criterion, samplewise=False))
        self.others = tuple(others)
        # Registered, so that their parameters and buffers are saved, moved and found.
        self.other_losses = nn.ModuleList(each.loss for each in others)
        self.other_miners = nn.ModuleList(each.miner for each in others if each.miner)
        self.adversaries = nn.ModuleList(Adversary(size, sizes[0]) for size in sizes[1:])
        self.decorrelation = decorrelation * (sizes[0] / PUBLISHED_DIMENSION) ** 2

    def parameter_groups(self) -> list[ParameterGroup]:
        """The base's, the other losses' with the losses' rate, the adversaries with their decay."""
        spec = self.spec
        return super().parameter_groups() + groups(
            ParameterGroup(trainable(self.other_losses), spec.criterion_learning_rate, 0.0),
            ParameterGroup(trainable(self.adversaries), spec.learning_rate, REGRESSOR_DECAY),
        )

    def shared_content(self, own: Encoded, others: Sequence[Encoded]) -> Tensor | float:
        """The adversaries' losses, weighted for the dimension; 0 without a weight."""
        if not self.decorrelation:
            return 0.0
        losses = [
            adversary(own.embedding, other.embedding)
            for adversary, other in zip(self.adversaries, others, strict=True)
        ]
        return self.decorrelation * torch.stack(losses).sum()


class TwoHeads(SeveralHeads):
    """An embedding of classes, which retrieval uses, and a second one of the same size."""

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
        """With the second head at the first one's rate."""
        spec = self.spec
        return super().parameter_groups() + groups(
            ParameterGroup(trainable(self.second), spec.learning_rate, spec.weight_decay)
        )

    def second_of(self, encoded: Encoded) -> Encoded:
        """The second embedding of what has been encoded."""
        return of_output(encoded.pooled, self.second(encoded.pooled))


def of_output(pooled: Tensor, output: Tensor) -> Encoded:
    """A head's output, and its direction.

    `pooled` is (B, k), `output` (B, d).
    """
    return Encoded(pooled, output, functional.normalize(output, dim=1))


def check_takes_triplets(method: str, base: str, criterion: Criterion, dimension: int) -> None:
    """Raise `UsageError` naming a base whose loss does not follow the triplets of a miner."""
    turns = torch.deg2rad(torch.tensor([0.0, 100.0, 20.0, 120.0]))
    points = torch.zeros(4, max(dimension, 2))
    points[:, 0], points[:, 1] = turns.cos(), turns.sin()
    points = functional.normalize(points[:, :dimension], dim=1)
    labels = torch.tensor([0, 0, 1, 1])
    anchors, near, far = torch.tensor([0, 3]), torch.tensor([2, 1]), torch.tensor([1, 0])
    try:
        with torch.no_grad():
            loss = deepcopy(criterion.loss)
            easy = float(loss(points, labels, (anchors, near, far)))
            follows = easy != float(loss(points, labels, (anchors, far, near)))
    except (TypeError, ValueError, NotImplementedError):
        follows = False
    if not follows:
        raise UsageError(
            f"{method}: base={base} takes no triplets; give a loss over triplets, such as margin."
        )
