"""Products of many matrices at once from operands in bfloat16, several times faster than float32.

Rounding moves an operand by at most 1 part in 256, without bias, and Adam follows the sign of a
gradient more than its size, so few steps notice. A processor without bfloat16 arithmetic multiplies
the same rounded operands in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

OPERANDS = torch.bfloat16


def rounded(values: Tensor) -> Tensor:
    """Values as an operand: float32 rounded to bfloat16.

    Any shape, which is kept.
    """
    return values.to(OPERANDS)


def rounded_products(weight: Tensor, inputs: Tensor) -> Tensor:
    """weight (E, D, C) times inputs (E, B, C) transposed, (E, D, B) float32.

    `inputs` are `rounded` and get no gradient; `weight` is float32 and so is its gradient.
    """
    product: Tensor = _RoundedProducts.apply(weight, inputs)
    return product


class _RoundedProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return _product(weight, inputs.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inputs,) = ctx.saved_tensors
        return _product(gradients[0], inputs), None


def _product(left: Tensor, right: Tensor) -> Tensor:
    left = rounded(left)
    if _has_arithmetic(left.device):
        return torch.bmm(left, right).float()
    return torch.bmm(left.float(), right.float())


def _has_arithmetic(device: torch.device) -> bool:
    if device.type != "cpu":
        return True
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported
