"""Distillation of an embedding from richer ones of the same network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.train.model import EmbeddingModel
from oodml.train.objective import (
    Batch,
    Criterion,
    Encoded,
    MakeObjective,
    Objective,
    ParameterGroup,
    groups,
    trainable,
)
from oodml.train.registry import Base, Recipe, method


class SelfDistillation(Objective):
    """Target heads beside the base head, whose similarities the base embedding imitates.

    L = (L_base + mean L_k) / 2 + weight * mean KL_k + feature_weight * KL_feature. The target
    heads are trained by losses of their own; retrieval uses the base head only. The features'
    similarities join after `feature_delay` steps, as constants.
    """

    steps: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        target_criteria: Sequence[Criterion],
        sizes: Sequence[int],
        weight: float,
        feature_weight: float,
        temperature: float,
        feature_delay: int,
    ) -> None:
        super().__init__(spec, model, criterion)
        self.weight, self.feature_weight = weight, feature_weight
        self.temperature, self.feature_delay = temperature, feature_delay
        self.target_criteria = tuple(target_criteria)
        # Registered, so that their parameters and buffers are saved, moved and found.
        self.registered = nn.ModuleList(target_criteria)
        self.targets = nn.ModuleList(target_head(model.dimension, size) for size in sizes)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def parameter_groups(self) -> list[ParameterGroup]:
        """The base's, the target heads with the network's rate, their losses with the losses'."""
        spec = self.spec
        return super().parameter_groups() + groups(
            ParameterGroup(
                trainable(self.targets), spec.training.learning_rate, spec.training.weight_decay
            ),
            ParameterGroup(trainable(self.registered), spec.training.criterion_learning_rate, 0.0),
        )

    def loss(self, batch: Batch) -> Tensor:
        """The losses of all heads and what the base head has yet to imitate."""
        encoded = self.encode(batch.inputs)
        own = similarities(encoded.embedding)
        value = self.criterion.of(encoded, batch.labels)
        number = len(self.targets)
        for head, criterion in zip(self.targets, self.target_criteria, strict=True):
            output = head(encoded.pooled)
            target = Encoded(encoded.pooled, output, functional.normalize(output, dim=1))
            value = value + criterion.of(target, batch.labels) / number
            if self.weight:
                distilled = divergence(similarities(target.embedding), own, self.temperature)
                value = value + 2 * self.weight * distilled / number
        return value / 2 + self._of_features(encoded.pooled, own)

    def _of_features(self, pooled: Tensor, own: Tensor) -> Tensor | float:
        self.steps += 1
        if not self.feature_weight or self.steps <= self.feature_delay:
            return 0.0
        features = similarities(functional.normalize(pooled, dim=1))
        return self.feature_weight * divergence(features, own, self.temperature)


def target_head(dimension: int, size: int) -> nn.Module:
    """Linear, ReLU, linear, both layers `size` wide."""
    return nn.Sequential(nn.Linear(dimension, size), nn.ReLU(), nn.Linear(size, size))


def similarities(embeddings: Tensor) -> Tensor:
    """Cosines (B, B) of unit vectors, each with itself included."""
    return embeddings @ embeddings.T


def divergence(target: Tensor, own: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over rows of KL(softmax(target / T) || softmax(own / T)).

    No gradient reaches `target`. Both are logits (B, k); the divergence is a scalar.
    """
    wanted = functional.log_softmax(target.detach() / temperature, dim=1)
    given = functional.log_softmax(own / temperature, dim=1)
    value = functional.kl_div(given, wanted, log_target=True, reduction="batchmean")
    return temperature**2 * value


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

    sizes = sizes_in(targets)
    return partial(
        SelfDistillation,
        criterion=base.criterion(num_classes, embedding_dim),
        target_criteria=[base.criterion(num_classes, size) for size in sizes],
        sizes=sizes,
        weight=weight,
        feature_weight=feature_weight,
        temperature=temperature,
        feature_delay=feature_delay,
    )
