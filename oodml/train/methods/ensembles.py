"""Ensembles within one network: learners that are slices of one embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import unknown_name
from oodml.run_spec import RunSpec
from oodml.train.decorrelation import (
    ActivationDecorrelation,
    AdversarialDecorrelation,
    start_at_unit_rows,
    unit_rows,
)
from oodml.train.losses.boosted import BoostedDeviance
from oodml.train.model import EmbeddingModel
from oodml.train.objective import (
    Batch,
    Criterion,
    MakeObjective,
    Objective,
    ParameterGroup,
    groups,
    trainable,
)
from oodml.train.registry import method
from oodml.train.slices import shares_in, slice_sizes, unit_slices

_CODE = "arXiv:1801.04815, its code"
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


@method(
    "bier",
    paper="arXiv:1801.04815",
    source=f"{_CODE}, Stanford Online Products",
    heads="3 growing slices, boosted; all retrieve",
    network={"batch_size": 128, "weight_decay": 2e-4},
)
def bier(
    num_classes: int,
    embedding_dim: int,
    *,
    heads: str = "3-5-8",
    alpha: float = 2.0,
    beta: float = 0.5,
    cost: float = 25.0,
    boosting: str = "shrinkage",
    shrinkage: float = 0.06,
    decorrelation: str = "adversarial",
    diversity: float = 5e-5,
    length_weight: float = 1e5,
    head_rate: float = 10.0,
) -> MakeObjective:
    """BIER: learners in growing slices, each taught most on pairs that those before it got wrong.

    `heads` is the ratio of the slices. `boosting` is the "shrinkage" form or the "eta" form of the
    pairs' weights. `diversity` weighs the `decorrelation`, "adversarial" or "activation", and
    `length_weight` within it how firmly the weights of each unit are held at unit length, those of
    the regressors and of the heads. Where the trunk is trained, the heads learn `head_rate` times
    as fast. Means over positives leave out the pairs of a sample with itself, which the code
    counts; the weights into a unit are held, where the code of the adversary takes those out of an
    input.
    """
    if decorrelation not in DECORRELATIONS:
        raise unknown_name("decorrelation", decorrelation, DECORRELATIONS)
    sizes = slice_sizes(embedding_dim, shares_in(heads))
    deviance = BoostedDeviance(
        sizes, alpha=alpha, beta=beta, cost=cost, form=boosting, shrinkage=shrinkage
    )
    return partial(
        BoostedLearners,
        criterion=Criterion(deviance),
        sizes=sizes,
        decorrelation=decorrelation,
        diversity=diversity,
        length_weight=length_weight,
        head_rate=head_rate,
    )
