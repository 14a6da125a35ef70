"""Gradient reversal: an adversary and the network it is set against, trained by one backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        return inputs.view_as(inputs)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def reverse_gradient(inputs: Tensor) -> Tensor:
    """The inputs as they are, any shape; their gradient comes back with the other sign.

    Source: arXiv:1505.07818.
    """
    reversed_inputs: Tensor = _Reversed.apply(inputs)
    return reversed_inputs
