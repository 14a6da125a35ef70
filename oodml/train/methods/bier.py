"""Learners that are slices of one embedding, each trained on what those before it leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.decorrelation import (
    ActivationDecorrelation,
    AdversarialDecorrelation,
    start_at_unit_rows,
    unit_rows,
)
from oodml.train.model import EmbeddingModel
from oodml.train.objective import (
    Batch,
    Criterion,
    Objective,
    ParameterGroup,
    groups,
    trainable,
)
from oodml.train.slices import unit_slices

Decorrelation = AdversarialDecorrelation | ActivationDecorrelation


DECORRELATIONS: dict[str, Callable[[Sequence[int]], Decorrelation]] = {
    "adversarial": AdversarialDecorrelation,
    "activation": lambda sizes: ActivationDecorrelation(),
}


class BoostedLearners(Objective):
    """Learners in slices of the embedding, boosted one after the other and kept apart.

    Retrieval sees every learner at unit length times its share of the dimensions. What keeps them
    apart moves the head alone, not the trunk.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        sizes: Sequence[int],
        decorrelation: str,
        diversity: float,
        length_weight: float,
        head_rate: float,
    ) -> None:
        super().__init__(spec, model, criterion)
        self.sizes = list(sizes)
        self.diversity, self.length_weight, self.head_rate = diversity, length_weight, head_rate
        self.decorrelation = (
            DECORRELATIONS[decorrelation](sizes) if diversity and len(sizes) > 1 else None
        )
        if self.decorrelation is not None:
            start_at_unit_rows(model.head)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The trunk, and what stands behind it at `head_rate` times its rate."""
        spec = self.spec
        trunk = trainable(self.model.trunk)
        rate = spec.learning_rate * (self.head_rate if trunk else 1.0)
        behind = nn.ModuleList([self.model.head, *self._regressors()])
        return groups(
            ParameterGroup(trunk, spec.learning_rate, spec.weight_decay, warm=False),
            ParameterGroup(trainable(behind), rate, spec.weight_decay),
        )

    def _regressors(self) -> list[nn.Module]:
        return [] if self.decorrelation is None else [self.decorrelation]

    def unit(self, output: Tensor) -> Tensor:
        """Every learner at unit length times its share of the dimensions, then all of them."""
        return unit_slices(output, self.sizes, self.sizes)

    def loss(self, batch: Batch) -> Tensor:
        """The boosted deviance, and what the learners have in common."""
        encoded = self.encode(batch.inputs)
        value = self.criterion(encoded, batch.labels)
        if self.decorrelation is None:
            return value
        rows = torch.split(self.model.head.weight, self.sizes)
        pooled = encoded.pooled.detach()
        common: Tensor = self.decorrelation([functional.linear(pooled, part) for part in rows])
        lengths = self.decorrelation.penalty() + torch.stack([unit_rows(x) for x in rows]).sum()
        return value + self.diversity * (common + self.length_weight * lengths)
