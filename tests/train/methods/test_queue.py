"""The slow copy of a network: what it follows, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oodml.errors import UsageError
from oodml.train.methods.parts.queue import MomentumCopy
from oodml.train.model import FrozenBatchNorm


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def moved(model: nn.Module) -> nn.Module:
    """The same model with other weights and statistics."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(1.0 + number)
    model.train()(torch.randn(8, 4))
    return model


def test_momentum_1_freezes_and_momentum_0_copies() -> None:
    model = network()
    frozen, copy = MomentumCopy(model, 1.0), MomentumCopy(model, 0.0)
    before = [p.clone() for p in model.parameters()]
    moved(model)
    frozen.update(model)
    copy.update(model)
    assert all(map(torch.equal, frozen.model.parameters(), before))
    assert all(map(torch.equal, copy.model.parameters(), model.parameters()))


def test_parameters_are_averaged_and_buffers_copied() -> None:
    model = network()
    slow = MomentumCopy(model, 0.75)
    before = [p.clone() for p in model.parameters()]
    slow.update(moved(model))
    for old, new, own in zip(before, model.parameters(), slow.model.parameters(), strict=True):
        assert torch.allclose(own, 0.75 * old + 0.25 * new)
        assert not torch.equal(own, old)
    assert all(map(torch.equal, slow.model.buffers(), model.buffers()))
    assert slow.model[1].num_batches_tracked == 1


def test_no_gradient_reaches_the_copy_and_the_model_keeps_its_own() -> None:
    model = network()
    slow = MomentumCopy(model, 0.9)
    inputs = torch.randn(5, 4, requires_grad=True)
    assert not slow(inputs).requires_grad
    assert not any(p.requires_grad for p in slow.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_frozen_statistics_stay_frozen_in_the_copy() -> None:
    model = nn.Sequential(FrozenBatchNorm(network()), nn.Dropout())
    slow = MomentumCopy(model, 0.9).eval().train()
    before = [b.clone() for b in slow.buffers()]
    slow(torch.randn(8, 4))
    assert slow.model[1].training and not slow.model[0].backbone[1].training
    assert all(map(torch.equal, slow.buffers(), before))


@pytest.mark.parametrize("momentum", [-0.1, 1.5])
def test_a_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(UsageError, match="momentum="):
        MomentumCopy(network(), momentum)
