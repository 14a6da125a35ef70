"""BIER: boosted weights, decorrelation of the heads alone, and what retrieval sees."""

from __future__ import annotations

from itertools import combinations
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_spec
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError
from oodml.train.methods.bier import (
    ActivationDecorrelation,
    AdversarialDecorrelation,
    BoostedDeviance,
    BoostedLearners,
    short,
    unit_rows,
)
from oodml.train.model import EmbeddingModel, slice_sizes, unit_slices
from oodml.train.objective import Batch, check_groups, make_objective
from oodml.train.registry import get_method

CLASSES, DIMENSION = 4, 16
LABELS = torch.arange(CLASSES).repeat_interleave(3)


def bier(trunk: nn.Module | None = None, **own: Any) -> BoostedLearners:
    torch.manual_seed(0)
    spec = make_spec("bier", learning_rate=0.01)
    model = EmbeddingModel(trunk or nn.Identity(), 10, DIMENSION)
    made = make_objective(get_method("bier").build_with(CLASSES, DIMENSION, own), spec, model)
    assert isinstance(made, BoostedLearners)
    return made


def batch() -> Batch:
    inputs = torch.randn(len(LABELS), 10, generator=torch.Generator().manual_seed(0))
    return Batch((inputs,), LABELS, torch.arange(len(LABELS)))


def deviance(form: str, *sizes: int) -> BoostedDeviance:
    return BoostedDeviance(sizes, alpha=2.0, beta=0.5, cost=25.0, form=form, shrinkage=0.06)


def by_hand(parts: list[np.ndarray], labels: np.ndarray, form: str) -> float:
    """The formula of arXiv:1801.04815, pair by pair."""
    positives = [(i, j) for i in range(len(labels)) for j in range(len(labels))
                 if i != j and labels[i] == labels[j]]  # fmt: skip
    negatives = [(i, j) for i in range(len(labels)) for j in range(len(labels))
                 if labels[i] != labels[j]]  # fmt: skip
    total = 0.0
    for pairs, sign in ((positives, 1.0), (negatives, -25.0)):
        for i, j in pairs:
            score, weight = (0.5 if form == "shrinkage" else 0.0), 1.0
            for number, part in enumerate(parts, 1):
                one, other = part[i], part[j]
                cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
                margin = 2.0 * (cosine - 0.5) * sign
                total += weight * np.log1p(np.exp(-margin)) / len(pairs) / len(parts)
                eta = 2 / (number + 1)
                score = (
                    score + 0.06 * margin
                    if form == "shrinkage"
                    else (1 - eta) * score + eta * margin
                )
                weight = 1 / (1 + np.exp(score))
                if form == "shrinkage" and sign < 0:
                    weight *= 2
    return total


@pytest.mark.parametrize("form", ["shrinkage", "eta"])
@pytest.mark.parametrize("sizes", [(16,), (3, 5, 8), (4, 4, 4, 4)])
def test_the_loss_is_that_of_its_formula(form: str, sizes: tuple[int, ...]) -> None:
    outputs = torch.randn(len(LABELS), DIMENSION, generator=torch.Generator().manual_seed(1))
    parts = [part.double().numpy() for part in outputs.split(list(sizes), dim=1)]
    found = deviance(form, *sizes)(outputs, LABELS).item()
    assert found == pytest.approx(by_hand(parts, LABELS.numpy(), form), rel=1e-5)


def test_one_learner_without_adversary_is_binomial_deviance() -> None:
    objective = bier(heads="1", diversity=0.0)
    assert objective.decorrelation is None
    embedding = functional.normalize(objective.model(batch().inputs), dim=1)
    same = LABELS[:, None] == LABELS[None, :]
    off = same & ~torch.eye(len(LABELS), dtype=torch.bool)
    similarity = embedding @ embedding.T
    expected = torch.log1p((-2 * (similarity[off] - 0.5)).exp()).mean()
    expected = expected + torch.log1p((50 * (similarity[~same] - 0.5)).exp()).mean()
    assert torch.allclose(objective.loss(batch()), expected)
    assert torch.allclose(objective.embed(batch().inputs), embedding)


@pytest.mark.parametrize(
    ("form", "positive", "negative"), [("shrinkage", 0.3775, 0.7551), ("eta", 0.5, 0.5)]
)
def test_a_pair_at_the_boundary_costs_ln_2_and_weighs_what_the_form_says(
    form: str, positive: float, negative: float
) -> None:
    # methods.md 5.2: the cosine is beta, whatever the pair.
    loss = deviance(form, 1)
    score = torch.full((2, 2), {"shrinkage": 0.5, "eta": 0.0}[form])
    score = loss.accumulated(score, torch.zeros(2, 2), 1)
    weights = loss.pair_weights(score, torch.tensor([[False, True], [True, False]]))
    assert weights[0, 0].item() == pytest.approx(positive, abs=5e-5)
    assert weights[0, 1].item() == pytest.approx(negative, abs=5e-5)
    # Three samples 60 degrees apart from each other: all cosines are 0.5.
    corners = torch.linalg.cholesky(0.5 * torch.eye(3) + 0.5)
    both = deviance(form, 3)(corners, torch.tensor([0, 0, 1]))
    assert both.item() == pytest.approx(2 * log(2), rel=1e-5)


def test_a_second_learner_gets_the_weights_of_the_first() -> None:
    corners = torch.linalg.cholesky(0.5 * torch.eye(3) + 0.5)
    for form, positive, negative in (("shrinkage", 0.3775, 0.7551), ("eta", 0.5, 0.5)):
        value = deviance(form, 3, 3)(torch.cat([corners, corners], dim=1), torch.tensor([0, 0, 1]))
        assert value.item() == pytest.approx((2 + positive + negative) * log(2) / 2, abs=1e-4)


def test_pair_weights_carry_no_gradient() -> None:
    outputs = torch.randn(len(LABELS), 8, requires_grad=True)
    loss = deviance("shrinkage", 4, 4)
    (whole,) = torch.autograd.grad(loss(outputs, LABELS), outputs)
    (alone,) = torch.autograd.grad(deviance("shrinkage", 4)(outputs[:, :4], LABELS), outputs)
    assert torch.allclose(whole[:, :4], alone[:, :4] / 2, atol=1e-6)
    assert whole[:, 4:].abs().sum() > 0


def test_an_unknown_form_or_decorrelation_is_named() -> None:
    with pytest.raises(UsageError, match="'eta'"):
        bier(boosting="etta")
    with pytest.raises(UsageError, match="'activation'"):
        bier(decorrelation="activations")


def product(objective: AdversarialDecorrelation, parts: list[Tensor]) -> float:
    with torch.no_grad():
        return -objective(parts).item()


def test_a_step_lowers_the_squared_product_by_the_heads_and_raises_it_by_the_regressor() -> None:
    torch.manual_seed(0)
    adversary = AdversarialDecorrelation([3, 5], hidden=8)
    parts = [torch.randn(6, size, requires_grad=True) for size in (3, 5)]
    before = product(adversary, parts)
    adversary(parts).backward()
    # What stochastic gradient descent does to each side by itself.
    moved = [(part - 0.1 * part.grad).detach() for part in parts]
    for one in ([moved[0], parts[1]], [parts[0], moved[1]]):
        assert product(adversary, one) < before
    with torch.no_grad():
        for parameter in adversary.parameters():
            parameter -= 0.1 * parameter.grad
    assert product(adversary, parts) > before


def test_the_adversary_regresses_the_smaller_learner_from_the_larger() -> None:
    adversary = AdversarialDecorrelation([2, 3, 4], hidden=7)
    shapes = [(each[0].in_features, each[2].out_features) for each in adversary.regressors]
    assert shapes == [(3, 2), (4, 2), (4, 3)]
    parts = [torch.randn(5, size) for size in (2, 3, 4)]
    expected = -sum(
        (parts[i] * adversary.regressors[number](parts[j])).square().mean()
        for number, (i, j) in enumerate(combinations(range(3), 2))
    )
    assert torch.allclose(adversary(parts), expected)


def test_the_norm_penalty_is_0_at_unit_rows_and_short_biases() -> None:
    assert unit_rows(torch.eye(3, 5)).item() == 0.0
    assert unit_rows(2 * torch.eye(3, 5)).item() == pytest.approx(9.0)
    assert short(torch.tensor([0.6, 0.8])).item() == pytest.approx(0.0)
    assert short(torch.tensor([0.1, 0.1])).item() == 0.0
    assert short(torch.tensor([1.0, 2.0])).item() == pytest.approx(4.0)
    adversary = AdversarialDecorrelation([2, 2], hidden=2)
    with torch.no_grad():
        for layer in (adversary.regressors[0][0], adversary.regressors[0][2]):
            layer.weight.copy_(torch.eye(2) * 2)
            layer.bias.copy_(torch.tensor([1.0, 2.0]))
    assert adversary.penalty().item() == pytest.approx(2 * (9.0 + 4.0))


def test_training_starts_without_a_penalty() -> None:
    objective = bier()
    assert isinstance(objective.decorrelation, AdversarialDecorrelation)
    assert objective.decorrelation.penalty().item() == pytest.approx(0.0, abs=1e-9)
    assert unit_rows(objective.model.head.weight).item() == pytest.approx(0.0, abs=1e-9)


def test_the_activation_variant_is_the_mean_squared_product_of_all_pairs_of_dimensions() -> None:
    parts = [torch.randn(5, size) for size in (2, 3, 4)]
    expected = sum(
        (one[:, :, None] * other[:, None, :]).square().mean()
        for one, other in combinations(parts, 2)
    )
    assert torch.allclose(ActivationDecorrelation()(parts), expected)


@pytest.mark.parametrize("kind", ["adversarial", "activation"])
def test_decorrelation_moves_the_heads_and_neither_trunk_nor_bias(kind: str) -> None:
    trunk = nn.Linear(10, 10)
    with_it = bier(trunk, decorrelation=kind, diversity=1.0, length_weight=0.1)
    without = bier(trunk, diversity=0.0)
    without.model.load_state_dict(with_it.model.state_dict())
    gradients = []
    for objective in (with_it, without):
        trunk.zero_grad()
        objective.loss(batch()).backward()
        head = objective.model.head
        gradients.append([trunk.weight.grad.clone(), head.bias.grad, head.weight.grad])
    same = [torch.equal(one, other) for one, other in zip(*gradients, strict=True)]
    assert same == [True, True, False]
    assert with_it.loss(batch()).item() != without.loss(batch()).item()


def test_every_term_enters_with_its_weight() -> None:
    objective = bier(decorrelation="activation", diversity=0.5, length_weight=3.0)
    head = objective.model.head.weight
    with torch.no_grad():
        head *= 1.5
    parts = [batch().inputs @ part.T for part in head.split([3, 5, 8])]
    lengths = sum(unit_rows(part) for part in head.split([3, 5, 8]))
    expected = deviance("shrinkage", 3, 5, 8)(objective.model(batch().inputs), LABELS)
    expected = expected + 0.5 * (ActivationDecorrelation()(parts) + 3.0 * lengths)
    assert torch.allclose(objective.loss(batch()), expected)


def test_heads_learn_faster_than_a_trunk_that_is_trained() -> None:
    frozen, trained = bier(), bier(nn.Linear(10, 10))
    assert [group.learning_rate for group in frozen.parameter_groups()] == [0.01]
    assert [group.learning_rate for group in trained.parameter_groups()] == [0.01, 0.1]
    for objective in (frozen, trained):
        check_groups(objective)
        objective.loss(batch()).backward()
        assert all(p.grad is not None for p in objective.parameters())


def test_retrieval_weighs_the_cosine_of_a_learner_by_its_squared_share() -> None:
    objective = bier()
    inputs = batch().inputs
    with torch.no_grad():
        embedding, output = objective.embed(inputs), objective.model(inputs)
    assert torch.allclose(embedding.norm(dim=1), torch.ones(len(inputs)))
    units = [functional.normalize(part, dim=1) for part in output.split([3, 5, 8], dim=1)]
    squared = [(size / DIMENSION) ** 2 for size in (3, 5, 8)]
    mean = sum(w * unit @ unit.T for w, unit in zip(squared, units, strict=True)) / sum(squared)
    assert torch.allclose(embedding @ embedding.T, mean, atol=1e-6)


def test_slices_make_up_the_embedding_in_their_ratio() -> None:
    assert slice_sizes(512, [3, 5, 8]) == [96, 160, 256]
    assert slice_sizes(6, [3, 5, 8]) == [1, 2, 3]
    for dimension in range(4, 40):
        sizes = slice_sizes(dimension, [1, 1, 1, 1])
        assert sum(sizes) == dimension and max(sizes) - min(sizes) <= 1
    with pytest.raises(UsageError, match="1-1-9"):
        slice_sizes(4, [1, 1, 9])


def test_one_slice_is_the_plain_embedding_bit_for_bit() -> None:
    output = torch.randn(5, 7)
    assert torch.equal(unit_slices(output, [7], [3.0]), functional.normalize(output, dim=1))
