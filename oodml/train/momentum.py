"""A frozen copy of a network that follows it slowly."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from oodml.errors import UsageError


class MomentumCopy(nn.Module):
    """A copy of `model` whose parameters are an exponential moving average of the model's.

    Every `update` moves them by p = momentum * p + (1 - momentum) * model's p, and copies the
    buffers, such as BatchNorm's statistics (arXiv:1911.05722). Its parameters take no gradient and
    belong to no optimiser; they and its buffers are saved with the module that holds the copy.
    Raises `UsageError` for a momentum outside 0 to 1.
    """

    def __init__(self, model: nn.Module, momentum: float) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise UsageError(f"momentum={momentum} is out of range; give a number from 0 to 1.")
        self.momentum = momentum
        self.model = deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow `model` by one step: momentum 1 leaves the copy as it is, 0 makes it equal."""
        for parameter, given in zip(self.model.parameters(), model.parameters(), strict=True):
            parameter.lerp_(given, 1 - self.momentum)
        for buffer, wanted in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(wanted)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """What the copy makes of inputs (B, ...), float32, without gradient."""
        output: Tensor = self.model(inputs)
        return output.float()
