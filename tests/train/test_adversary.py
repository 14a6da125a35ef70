"""The adversary between two embeddings: closed forms, and which way each side moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.methods.parts.several_heads import Adversary


def unit(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=random), dim=1)


def identity(size: int) -> Adversary:
    adversary = Adversary(size, size)
    adversary.regressor = nn.Identity()  # type: ignore[assignment]
    return adversary


@pytest.mark.parametrize("size", [4, 16])
def test_two_equal_embeddings_cost_minus_one_over_the_dimension_at_least(size: int) -> None:
    # methods.md 5.5: -1/d^2 where all entries are equal (d = 4: -.0625), -1/d for a basis vector.
    flat, basis = torch.full((3, size), size**-0.5), torch.eye(size)[:3]
    assert identity(size)(flat, flat).item() == pytest.approx(-1 / size**2)
    assert identity(size)(basis, basis).item() == pytest.approx(-1 / size)
    assert identity(4)(torch.full((1, 4), 0.5), torch.full((1, 4), 0.5)).item() == -0.0625


def test_the_regression_is_brought_to_unit_length() -> None:
    target, source = torch.eye(4)[:1], torch.tensor([[3.0, 0.0, 4.0, 0.0]])
    assert identity(4)(target, source).item() == pytest.approx(-(0.6**2) / 4)


def test_one_backward_trains_both_sides_against_each_other() -> None:
    """A step of the regressor makes the loss smaller, one of either embedding makes it larger."""
    torch.manual_seed(0)
    adversary = Adversary(6, 5)
    target, source = unit(8, 5).requires_grad_(), unit(8, 6, seed=1).requires_grad_()
    before = adversary(target, source)
    before.backward()
    with torch.no_grad():
        regressor = adversary.state_dict()
        for parameter in adversary.parameters():
            parameter -= 0.1 * parameter.grad
        assert adversary(target, source) < before - 1e-4
        adversary.load_state_dict(regressor)
    torch.manual_seed(0)
    again = Adversary(6, 5)
    with torch.no_grad():
        assert again(target - 0.1 * target.grad, source) > before
        assert again(target, source - 0.1 * source.grad) > before


def test_the_sizes_of_both_sides_are_free_and_the_regressor_is_512_wide() -> None:
    shapes = [tuple(p.shape) for p in Adversary(6, 5).parameters()]
    assert shapes == [(512, 6), (512,), (5, 512), (5,)]
    assert Adversary(6, 5)(unit(3, 5), unit(3, 6)).shape == ()


def test_embeddings_of_length_zero_have_a_finite_gradient() -> None:
    source = torch.zeros(2, 3, requires_grad=True)
    loss = identity(3)(torch.zeros(2, 3), source)
    loss.backward()
    assert float(loss.detach()) == 0 and source.grad is not None and source.grad.isfinite().all()
