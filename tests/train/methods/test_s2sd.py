"""S2SD: closed forms, identities with their base, and whom gradients reach."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch
from conftest import make_spec
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.methods.s2sd import SelfDistillation, divergence
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


def s2sd(**own: Any) -> SelfDistillation:
    made = make("s2sd", **{"base": "contrastive", "targets": "16-24", **own})
    assert isinstance(made, SelfDistillation)
    return made


def batch(size: int = 10, seed: int = 0, step: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(LABELS), size, generator=random)
    return Batch((inputs,), LABELS, torch.arange(len(LABELS)), step)


def value(objective: Objective, given: Batch, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return objective.loss(given)


def test_the_divergence_runs_from_the_target_to_the_base() -> None:
    # methods.md 5.8: base with 0 beside the diagonal, target with 0.5.
    base, target = torch.eye(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    assert divergence(target, base, 1.0).item() == pytest.approx(0.02796, abs=1e-5)
    assert divergence(base, target, 1.0).item() == pytest.approx(0.02634, abs=1e-5)
    p, q = 1 / (1 + exp(-0.25)), 1 / (1 + exp(-0.5))
    by_hand = 4 * (p * log(p / q) + (1 - p) * log((1 - p) / (1 - q)))
    assert divergence(target, base, 2.0).item() == pytest.approx(by_hand, rel=1e-4)


def test_identical_similarities_have_nothing_to_distill() -> None:
    same = torch.rand(4, 4, requires_grad=True)
    assert divergence(same, same, 1.0).item() == pytest.approx(0.0, abs=1e-7)


def test_without_targets_and_weights_half_the_base_loss_is_left() -> None:
    objective = s2sd(targets="", weight=0.0, feature_weight=0.0)
    assert torch.allclose(value(objective, batch()), value(make("contrastive"), batch()) / 2)


def test_the_loss_is_that_of_its_formula() -> None:
    objective = s2sd(weight=3.0, feature_weight=2.0, temperature=0.7)
    encoded = objective.encode(batch().inputs)
    own = encoded.embedding @ encoded.embedding.T
    contrastive = make("contrastive").criterion
    targets, distilled = [], []
    for head in objective.targets:
        embedding = functional.normalize(head(encoded.pooled), dim=1)
        targets.append(contrastive(embedding, LABELS))
        distilled.append(divergence(embedding @ embedding.T, own, 0.7))
    features = functional.normalize(batch().inputs, dim=1)
    expected = (
        (contrastive(encoded.embedding, LABELS) + sum(targets) / 2) / 2
        + 3.0 * sum(distilled) / 2
        + 2.0 * divergence(features @ features.T, own, 0.7)
    )
    assert torch.allclose(value(objective, batch()), expected)


def test_distillation_moves_the_base_head_only() -> None:
    alone = s2sd(weight=0.0, feature_weight=0.0)
    both = s2sd(weight=50.0, feature_weight=50.0)
    for objective in (alone, both):
        value(objective, batch()).backward()
    for first, second in zip(alone.targets.parameters(), both.targets.parameters(), strict=True):
        assert torch.allclose(first.grad, second.grad)
    assert not torch.allclose(alone.model.head.weight.grad, both.model.head.weight.grad)


def test_no_gradient_reaches_the_trunk_through_the_features_similarities() -> None:
    objective = s2sd(trunk=nn.Linear(10, 10), targets="", weight=0.0, feature_weight=50.0)
    pooled = objective.model.trunk(batch().inputs)
    own = torch.eye(len(LABELS), requires_grad=True)
    objective._of_features(pooled, own, 0).backward()
    assert objective.model.trunk.weight.grad is None and own.grad is not None


def test_the_features_join_after_their_delay() -> None:
    late = s2sd(targets="", weight=0.0, feature_weight=50.0, feature_delay=2)
    half = value(make("contrastive"), batch()) / 2
    joined = [not torch.allclose(value(late, batch(step=step)), half) for step in range(4)]
    assert joined == [False, False, True, True]


def test_every_head_has_a_loss_of_its_own_and_every_parameter_a_rate() -> None:
    objective = s2sd(base="proxy_anchor", targets="16-24")
    check_groups(objective)
    shapes = sorted(tuple(p.shape) for p in objective.registered.parameters())
    assert shapes == [(CLASSES, 16), (CLASSES, 24)]
    value(objective, batch()).backward()
    assert all(p.grad is not None for p in objective.parameters())


def test_a_loaded_state_goes_on_as_the_first_would() -> None:
    own = {"targets": "16", "feature_delay": 3}
    first, second = make("s2sd", **own), make("s2sd", **own)
    for seed in range(3):
        value(first, batch(seed=seed, step=seed), seed)
    second.load_state_dict(first.state_dict())
    for seed in range(3, 7):
        given = batch(seed=seed, step=seed)
        assert torch.equal(*(value(each, given, seed) for each in (first, second)))
