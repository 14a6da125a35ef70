"""Uniform prior: closed forms, identities with their base, and whom gradients reach."""

from __future__ import annotations

from copy import deepcopy
from math import exp, log
from typing import Any

import pytest
import torch
from conftest import make_spec
from torch import Tensor, nn

from oodml.errors import UsageError
from oodml.train.methods.uniform_prior import UniformPrior, adversarial_loss, discriminator_loss
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Objective, check_groups, make_objective
from oodml.train.registry import get_method

CLASSES, DIMENSION = 6, 8
LABELS = torch.arange(CLASSES).repeat_interleave(2)


def make(method: str, trunk: nn.Module | None = None, size: int = 10, **own: Any) -> Objective:
    torch.manual_seed(0)
    spec = make_spec(method, batch_size=12, learning_rate=0.01)
    model = EmbeddingModel(trunk or nn.Identity(), size, DIMENSION)
    built = get_method(method).build_with(CLASSES, DIMENSION, own)
    return make_objective(built, spec, model)


def uniform_prior(**own: Any) -> UniformPrior:
    made = make("uniform_prior", **own)
    assert isinstance(made, UniformPrior)
    return made


def batch(size: int = 10, seed: int = 0, step: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(LABELS), size, generator=random)
    return Batch((inputs,), LABELS, torch.arange(len(LABELS)), step)


def value(objective: Objective, given: Batch, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return objective.loss(given)


def undecided(size: int) -> nn.Module:
    layer = nn.Linear(size, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.Flatten(0))


def test_an_undecided_discriminator_costs_two_ln_2_and_its_features_ln_2() -> None:
    features, noise = torch.randn(5, 4), torch.rand(5, 4)
    assert discriminator_loss(undecided(4), noise, features).item() == pytest.approx(
        1.3863, abs=1e-4
    )
    assert adversarial_loss(undecided(4), features).item() == pytest.approx(log(2))


def test_the_discriminator_learns_to_tell_and_the_features_to_be_taken_for_noise() -> None:
    # D says 1 with the chance of the logistic function of the sum: noise is above, features below.
    judge = undecided(2)
    nn.init.ones_(judge[0].weight)
    noise, features = torch.ones(3, 2), -torch.ones(3, 2)
    assert discriminator_loss(judge, noise, features).item() == pytest.approx(2 * log(1 + exp(-2)))
    assert adversarial_loss(judge, features).item() == pytest.approx(log(1 + exp(2)))


def test_the_network_s_loss_leaves_the_discriminator_alone() -> None:
    objective = uniform_prior(every=10**6)
    before = [p.detach().clone() for p in objective.discriminator.parameters()]
    value(objective, batch(step=1)).backward()
    assert all(p.grad is None for p in objective.discriminator.parameters())
    assert objective.model.head.weight.grad is not None
    for old, new in zip(before, objective.discriminator.parameters(), strict=True):
        assert torch.equal(old, new)


def test_the_discriminator_s_step_leaves_the_network_alone_and_comes_every_so_often() -> None:
    objective = uniform_prior(every=3, weight=0.0)
    head = objective.model.head.weight.detach().clone()
    moved = []
    for step in range(6):
        before = objective.discriminator[0].weight.detach().clone()
        value(objective, batch(step=step))
        moved.append(not torch.equal(before, objective.discriminator[0].weight))
    assert moved == [True, False, False, True, False, False]
    assert torch.equal(head, objective.model.head.weight)
    assert objective.model.head.weight.grad is None


def test_the_discriminator_gets_better_with_its_steps() -> None:
    objective = uniform_prior(every=1)
    features = 3 + objective.model(batch().inputs).detach()
    noise = 2 * torch.rand_like(features) - 1
    before = discriminator_loss(objective.discriminator, noise, features).item()
    for _ in range(20):
        objective._train_discriminator(features)
    assert discriminator_loss(objective.discriminator, noise, features).item() < before - 0.1


def test_a_uniform_prior_of_weight_0_is_its_base() -> None:
    # The base draws its triplets before the noise is drawn.
    assert torch.equal(value(uniform_prior(weight=0.0), batch()), value(make("margin"), batch()))


def test_a_uniform_prior_adds_weight_times_its_term() -> None:
    objective = uniform_prior(weight=0.5, base="contrastive", every=10**6)
    output = objective.output(batch().inputs)
    expected = value(make("contrastive"), batch()) + 0.5 * adversarial_loss(
        objective.discriminator, output
    )
    assert torch.allclose(value(objective, batch(step=1)), expected)


def test_pooled_features_are_judged_in_pieces_of_128_where_the_trunk_is_trained() -> None:
    objective = uniform_prior(trunk=nn.Linear(10, 256), size=256)
    assert objective.discriminator[0].in_features == 128
    assert objective._judged(objective.encode(batch().inputs)).shape == (24, 128)
    value(objective, batch()).backward()
    assert objective.model.trunk.weight.grad is not None
    odd = uniform_prior(trunk=nn.Linear(10, 200), size=200)
    assert odd.discriminator[0].in_features == 200
    on_output = uniform_prior(trunk=nn.Linear(10, 256), size=256, on="output")
    assert on_output.discriminator[0].in_features == DIMENSION


def test_the_place_of_a_uniform_prior_is_checked() -> None:
    with pytest.raises(UsageError, match="on=pooled"):
        uniform_prior(on="pooled")
    with pytest.raises(UsageError, match="'pooled'"):
        uniform_prior(on="pool")


def test_the_discriminator_and_its_optimiser_are_in_the_state() -> None:
    first, second = uniform_prior(every=2), uniform_prior(every=2)
    check_groups(first)
    for seed in range(3):
        value(first, batch(seed=seed, step=seed), seed)
    second.load_state_dict(first.state_dict())
    for name, optimizer in second.private_optimizers().items():
        # Copied, as from a file: an optimiser keeps the tensors that it is given.
        optimizer.load_state_dict(deepcopy(first.private_optimizers()[name].state_dict()))
    for seed in range(3, 7):
        assert torch.equal(
            *(value(each, batch(seed=seed, step=seed), seed) for each in (first, second))
        )
