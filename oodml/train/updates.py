"""Updates: the optimiser with its schedule, its warm-up and its clipping, as a spec asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from oodml.errors import unknown_name
from oodml.runs.spec import RunSpec
from oodml.train.objective import Objective, ParameterGroup, check_groups

MOMENTUM = 0.9
_OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], RunSpec], torch.optim.Optimizer]] = {
    "adam": lambda groups, spec: torch.optim.Adam(groups, eps=spec.training.optimizer_epsilon),
    "adamw": lambda groups, spec: torch.optim.AdamW(groups, eps=spec.training.optimizer_epsilon),
    "rmsprop": lambda groups, spec: torch.optim.RMSprop(
        groups, momentum=MOMENTUM, eps=spec.training.optimizer_epsilon
    ),
    "sgd": lambda groups, spec: torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM),
}
OPTIMIZERS = tuple(_OPTIMIZERS)
SCHEDULES = ("constant", "cosine", "step")


class Updates:
    """Steps of the optimiser over an objective's declared groups.

    The learning rates follow from the step and the epoch alone, so a checkpoint needs no state of
    the schedule. Raises `ValueError` for a parameter that is not in exactly one group.
    """

    def __init__(self, objective: Objective, total_steps: int) -> None:
        check_groups(objective)
        self.spec = objective.spec
        self.total_steps = total_steps
        self.groups: list[ParameterGroup] = objective.parameter_groups()
        self.parameters = [p for group in self.groups for p in group.parameters]
        if self.spec.training.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", self.spec.training.optimizer, OPTIMIZERS)
        self.optimizer = _OPTIMIZERS[self.spec.training.optimizer](
            [
                {"params": g.parameters, "lr": g.learning_rate, "weight_decay": g.weight_decay}
                for g in self.groups
            ],
            self.spec,
        )

    def begin_epoch(self, epoch: int) -> None:
        """Let the groups that are not new rest while the warm-up lasts."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.requires_grad_(group.warm or epoch >= self.spec.training.warmup_epochs)

    def clear(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def gradient_norm(self) -> float:
        """The Euclidean norm of all gradients together, before clipping."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients)) if gradients else 0.0

    def step(self, step: int, epoch: int) -> None:
        """Clip the gradients, set the learning rates, and move the parameters."""
        if self.spec.training.clip_value:
            nn.utils.clip_grad_value_(self.parameters, self.spec.training.clip_value)
        if self.spec.training.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.spec.training.clip_norm)
        factor = rate_factor(self.spec, step, epoch, self.total_steps)
        for declared, group in zip(self.groups, self.optimizer.param_groups, strict=True):
            group["lr"] = declared.learning_rate * factor
        self.optimizer.step()


def rate_factor(spec: RunSpec, step: int, epoch: int, total_steps: int) -> float:
    """What the learning rates are multiplied with at a step.

    "cosine" falls from 1 to 0 over all steps (arXiv:1608.03983 without restarts), "step" is
    multiplied by `decay` every `decay_every` epochs.
    """
    if spec.training.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / max(total_steps, 1)))
    if spec.training.schedule == "step":
        return float(spec.training.decay ** (epoch // max(spec.training.decay_every, 1)))
    return 1.0
