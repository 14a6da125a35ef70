"""Gradient reversal."""

from __future__ import annotations

import torch

from oodml.train.methods.parts.several_heads import reverse_gradient


def test_values_pass_and_gradients_turn_round() -> None:
    inputs = torch.tensor([1.0, -2.0], requires_grad=True)
    outputs = reverse_gradient(inputs)
    assert torch.equal(outputs, inputs)
    (outputs * torch.tensor([3.0, 5.0])).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.tolist() == [-3.0, -5.0]
