"""Products of rounded operands, with or without bfloat16 arithmetic, and what rounding moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oodml.train.few_shot import rounded_products
from oodml.train.few_shot.rounded_products import rounded

# Half the distance of two neighbouring bfloat16 numbers, as a share of them.
UNIT = 2.0**-8


def made() -> tuple[Tensor, Tensor, Tensor]:
    """A weight (E, D, C), inputs (E, B, C) and the gradient (E, D, B) of their products."""
    random = torch.Generator().manual_seed(0)
    shapes = (3, 5, 70), (3, 11, 70), (3, 5, 11)
    weight, inputs, gradient = (torch.randn(shape, generator=random) for shape in shapes)
    return weight, inputs, gradient


def products(weight: Tensor, inputs: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    leaf = weight.clone().requires_grad_()
    found = rounded_products.rounded_products(leaf, rounded(inputs))
    found.backward(gradient)
    assert found.dtype == torch.float32 and leaf.grad is not None
    return found.detach(), leaf.grad


@pytest.mark.parametrize("has_arithmetic", [True, False])
def test_products_and_gradients_are_those_of_rounded_operands(
    has_arithmetic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounded_products, "_has_arithmetic", lambda _: has_arithmetic)
    weight, inputs, gradient = made()
    found, moved = products(weight, inputs, gradient)
    weight, inputs, gradient = (rounded(each).double() for each in (weight, inputs, gradient))
    # A processor with the arithmetic rounds each product once more as it hands it over.
    bound = {"rtol": UNIT * 1.01 if has_arithmetic else 1e-5, "atol": 1e-4}
    torch.testing.assert_close(found.double(), weight @ inputs.mT, **bound)
    torch.testing.assert_close(moved.double(), gradient @ inputs, **bound)


def test_rounding_moves_a_product_by_no_more_than_its_bound() -> None:
    weight, inputs, gradient = made()
    found, moved = products(weight, inputs, gradient)
    bound = 3.02 * UNIT * (weight.abs() @ inputs.abs().mT) + 1e-4
    assert bool(((found - weight @ inputs.mT).abs() <= bound).all())
    assert bool(
        (
            (moved - gradient @ inputs).abs()
            <= 3.02 * UNIT * (gradient.abs() @ inputs.abs()) + 1e-4
        ).all()
    )
    assert not torch.equal(found, weight @ inputs.mT)
