"""Closed forms and identities of the softmax losses, with the numbers of their formulas."""

from __future__ import annotations

from math import cos, log, pi, sin

import pytest
import torch
from pytorch_metric_learning import losses, regularizers
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.methods.proxies import SoftTriple, center_spread
from oodml.train.methods.softmax import AngularMargin, multiplied_angle
from oodml.train.objective import Criterion, as_criterion
from oodml.train.registry import get_method

CLASSES, DIMENSION = 5, 8


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(7, DIMENSION, generator=random), dim=1)
    return embeddings, torch.tensor([0, 0, 1, 2, 3, 4, 4])


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(CLASSES, DIMENSION, generator=torch.Generator().manual_seed(1))


def criterion(name: str, **hyperparameters: float) -> Criterion:
    return as_criterion(get_method(name).build(CLASSES, DIMENSION, **hyperparameters))


def with_weight(built: Criterion, weight: Tensor) -> nn.Module:
    """The loss with these class weights, each as its own layout has them."""
    (parameter,) = built.parameters()
    layouts = {tuple(weight.shape): weight, tuple(weight.T.shape): weight.T}
    value = layouts.get(tuple(parameter.shape), weight[None])
    parameter.data = value.reshape(parameter.shape).clone().contiguous()
    return built


IDENTICAL = [
    ("normalized_softmax", {"temperature": 0.05}),
    ("arcface", {"margin": 0.0, "scale": 20.0}),
    ("sub_center_arcface", {"margin": 0.0, "scale": 20.0, "sub_centers": 1}),
    ("cosface", {"margin": 0.0, "scale": 20.0}),
    ("soft_triple", {"centers_per_class": 1, "margin": 0.0, "scale": 20.0}),
    ("proxy_nca_pp", {"temperature": 0.1}),
]


@pytest.mark.parametrize(("name", "hyperparameters"), IDENTICAL)
def test_without_a_margin_all_are_a_softmax_over_cosines(
    batch: tuple[Tensor, Tensor], weight: Tensor, name: str, hyperparameters: dict[str, float]
) -> None:
    embeddings, labels = batch
    expected = functional.cross_entropy(
        20 * embeddings @ functional.normalize(weight, dim=1).T, labels
    )
    loss = with_weight(criterion(name, **hyperparameters), weight)
    assert float(loss(embeddings, labels)) == pytest.approx(float(expected), rel=1e-5)


def test_cosface_lowers_the_own_logit_by_scale_times_margin(
    batch: tuple[Tensor, Tensor], weight: Tensor
) -> None:
    embeddings, labels = batch
    logits = 10 * embeddings @ functional.normalize(weight, dim=1).T
    logits[torch.arange(len(labels)), labels] -= 10 * 0.35
    loss = with_weight(criterion("cosface", margin=0.35, scale=10.0), weight)
    expected = float(functional.cross_entropy(logits, labels))
    assert float(loss(embeddings, labels)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("angle", [0.0, 1.0, 2.0, pi - 0.5, 3.0])
def test_arcface_adds_its_margin_in_radians_and_stays_monotone_past_the_half_circle(
    angle: float,
) -> None:
    # Two classes at angle 0 and pi / 2 of the plane: logits are s cos(angle), s sin(angle).
    loss = get_method("arcface").build(2, 2, margin=0.5, scale=3.0).loss
    loss.W.data = torch.eye(2)
    embedding = torch.tensor([[cos(angle), sin(angle)]], requires_grad=True)
    value = loss(embedding, torch.tensor([0]))
    value.backward()
    own = cos(angle + 0.5) if angle <= pi - 0.5 else cos(angle) - 0.5 * sin(0.5)
    assert value.item() == pytest.approx(
        log(1 + 2.71828182846 ** (3 * (sin(angle) - own))), rel=1e-5
    )
    assert embedding.grad is not None and embedding.grad.isfinite().all()


def test_a_larger_margin_raises_the_loss_of_every_sample(weight: Tensor) -> None:
    random = torch.Generator().manual_seed(2)
    embeddings = functional.normalize(torch.randn(40, DIMENSION, generator=random), dim=1)
    for one, label in zip(embeddings, torch.arange(40) % CLASSES, strict=True):
        values = [
            float(with_weight(criterion("arcface", margin=m), weight)(one[None], label[None]))
            for m in (0.0, 0.2, 0.5)
        ]
        assert values == sorted(values) and values[0] < values[2]


def test_the_nearest_of_several_sub_centers_counts() -> None:
    loss = get_method("sub_center_arcface").build(2, 2, margin=0.0, scale=4.0, sub_centers=2).loss
    loss.W.data = torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]])
    # Class 0 has its centres at 0 and 90 degrees, class 1 at 180 and 270.
    value = float(loss(torch.tensor([[0.6, 0.8]]), torch.tensor([0])))
    assert value == pytest.approx(log(1 + 2.71828182846 ** (4 * (-0.6 - 0.8))), rel=1e-5)


def test_the_multiplied_angle_at_its_closed_form_values() -> None:
    angles = torch.tensor([0.0, pi / 4, pi / 2, pi], dtype=torch.float64)
    values = multiplied_angle(angles.cos(), 4)
    assert values.tolist() == pytest.approx([1.0, -1.0, -3.0, -7.0], abs=1e-9)
    circle = torch.linspace(0, pi, 2001, dtype=torch.float64)
    for margin in (1, 2, 3, 4, 5):
        assert (multiplied_angle(circle.cos(), margin).diff() < 1e-12).all()
    assert torch.allclose(multiplied_angle(circle.cos(), 1), circle.cos())


def annealed(margin: int, unit_weights: bool, weight: Tensor, step: int) -> AngularMargin:
    loss = AngularMargin(CLASSES, DIMENSION, margin, 0.0, unit_weights)
    loss.weight.data = weight.clone()
    loss.begin_step(step)
    return loss


@pytest.mark.parametrize(
    ("unit_weights", "library"),
    [(True, losses.SphereFaceLoss), (False, losses.LargeMarginSoftmaxLoss)],
)
@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_once_the_plain_cosine_is_gone_the_library_agrees(
    batch: tuple[Tensor, Tensor],
    weight: Tensor,
    unit_weights: bool,
    library: type[nn.Module],
    margin: int,
) -> None:
    embeddings, labels = batch[0] * torch.linspace(0.5, 3, 7)[:, None], batch[1]
    other = library(CLASSES, DIMENSION, margin=margin, scale=1)
    other.W.data = weight.T.clone()
    ours = annealed(margin, unit_weights, weight, 10**15)(embeddings, labels)
    assert float(ours) == pytest.approx(float(other(embeddings, labels)), rel=1e-4)


def test_sphereface_without_a_margin_is_a_softmax_over_length_times_cosine(
    batch: tuple[Tensor, Tensor], weight: Tensor
) -> None:
    outputs, labels = 3 * batch[0], batch[1]
    expected = functional.cross_entropy(outputs @ functional.normalize(weight, dim=1).T, labels)
    built = criterion("sphereface", margin=1)
    assert not built.normalized
    loss = with_weight(built, weight)
    assert float(loss(outputs, labels)) == pytest.approx(float(expected), rel=1e-5)


def test_the_margin_comes_in_with_the_steps(
    batch: tuple[Tensor, Tensor],
) -> None:
    loss = criterion("sphereface")
    assert isinstance(loss, AngularMargin)
    shares = []
    for step in range(3):
        loss.begin_step(step)
        loss(*batch)
        shares.append(float(loss.plain_share))
    assert shares == pytest.approx([1000.0, 1000 / 1.12, 1000 / 1.24])
    loss.begin_step(10**6)
    assert float(loss.plain_share) == 5.0


def test_soft_triple_with_its_pull_equals_the_library(
    batch: tuple[Tensor, Tensor],
) -> None:
    ours = SoftTriple(CLASSES, DIMENSION, centers_per_class=3)
    other = losses.SoftTripleLoss(
        CLASSES,
        DIMENSION,
        centers_per_class=3,
        weight_regularizer=regularizers.SparseCentersRegularizer(CLASSES, 3),
        weight_reg_weight=0.2,
    )
    other.fc.data = ours.centers.detach().transpose(0, 1).flatten(0, 1).T.clone()
    assert float(ours(*batch)) == pytest.approx(float(other(*batch)), rel=1e-5)


def test_identical_centers_count_as_one(batch: tuple[Tensor, Tensor], weight: Tensor) -> None:
    one = criterion("soft_triple", centers_per_class=1)
    two = criterion("soft_triple", centers_per_class=2)
    (centers,) = two.parameters()
    centers.data = weight[None].repeat(2, 1, 1)
    value = two(*batch)
    value.backward()
    # What is left of the pull is tau / 2 sqrt(epsilon).
    assert value.item() == pytest.approx(
        float(with_weight(one, weight)(*batch)) + 0.2 / 2 * 1e-5**0.5, rel=1e-5
    )
    assert centers.grad is not None and centers.grad.isfinite().all()


def test_the_pull_is_half_the_mean_distance_of_a_class_s_centers() -> None:
    centers = torch.eye(3)[:2, None].repeat(1, 4, 1)
    assert float(center_spread(centers)) == pytest.approx(2**0.5 / 2, rel=1e-5)


@pytest.mark.parametrize("name", ["normalized_softmax", "cosface", "arcface", "soft_triple"])
def test_a_batch_s_loss_is_the_mean_over_its_parts(batch: tuple[Tensor, Tensor], name: str) -> None:
    embeddings, labels = batch
    built = criterion(name)
    parts = [built(embeddings[rows], labels[rows]) for rows in (slice(0, 3), slice(3, 7))]
    whole = float(built(embeddings, labels))
    assert built.samplewise
    assert whole == pytest.approx(float(3 * parts[0] + 4 * parts[1]) / 7, rel=1e-5)
