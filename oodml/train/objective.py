"""Objective: what a method optimises, as five hooks that the training loop calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oodml.store import RunSpec
from oodml.train.model import EmbeddingModel
from oodml.train.sampler import BalancedBatches


@dataclass(frozen=True)
class Batch:
    """`inputs` (B, ...) of one batch, `labels` (B,) from 0 over the training classes, and the
    `index` (B,) of every sample among the training samples."""

    inputs: Tensor
    labels: Tensor
    index: Tensor


@dataclass(frozen=True)
class Criterion:
    """A loss called as loss(embeddings, labels[, tuples]) and the miner of those tuples."""

    loss: nn.Module
    miner: nn.Module | None = None


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay."""

    parameters: list[nn.Parameter]
    learning_rate: float
    weight_decay: float


class Objective(nn.Module):
    """A model and a criterion; methods that need more override the hooks.

    The hooks are `loader`, `begin_epoch`, `loss`, `after_step` and `embed`, with the parameters
    declared in `parameter_groups`. All state lives in parameters, buffers or extra state, so
    that a resumed run equals an uninterrupted one.
    """

    def __init__(self, spec: RunSpec, model: EmbeddingModel, criterion: Criterion) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.criterion = criterion.loss
        self.miner = criterion.miner

    def loader(self, labels: Tensor, epoch: int) -> Iterable[Any]:
        """Index arrays, one a batch, into the training samples."""
        spec = self.spec
        return BalancedBatches(
            labels.numpy(), spec.batch_size, spec.samples_per_class, seed=spec.seed
        ).epoch(epoch)

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first batch of an epoch."""

    def loss(self, batch: Batch) -> Tensor:
        """The scalar to minimise, computed in float32."""
        embeddings = self.model(batch.inputs).float()
        if self.miner is None:
            value: Tensor = self.criterion(embeddings, batch.labels)
        else:
            value = self.criterion(embeddings, batch.labels, self.miner(embeddings, batch.labels))
        return value

    def after_step(self, batch: Batch, step: int) -> None:
        """Called after every step of the optimiser."""

    def embed(self, inputs: Tensor) -> Tensor:
        """The unit-length embeddings (B, D) that retrieval uses."""
        embeddings: Tensor = self.model(inputs)
        return embeddings.float()

    def parameter_groups(self) -> list[ParameterGroup]:
        """The model's parameters, and the criterion's own with their own rate and no decay."""
        spec = self.spec
        groups = [
            ParameterGroup(_trainable(self.model), spec.learning_rate, spec.weight_decay),
            ParameterGroup(_trainable(self.criterion), spec.criterion_learning_rate, 0.0),
        ]
        return [group for group in groups if group.parameters]


def optimizer_groups(objective: Objective) -> list[dict[str, Any]]:
    """The declared groups as torch wants them; every trainable parameter in exactly one.

    Raises `ValueError` naming a parameter that no group or more than one group holds.
    """
    groups = objective.parameter_groups()
    seen = [id(p) for group in groups for p in group.parameters]
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad and seen.count(id(parameter)) != 1:
            raise ValueError(
                f"{objective.spec.method}: parameter {name} stands in "
                f"{seen.count(id(parameter))} groups; declare it in exactly one."
            )
    return [
        {"params": g.parameters, "lr": g.learning_rate, "weight_decay": g.weight_decay}
        for g in groups
    ]


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def as_criterion(built: nn.Module | Criterion) -> Criterion:
    """What a method's function returned, as a `Criterion`."""
    if isinstance(built, torch.nn.Module):
        return Criterion(built)
    return built
