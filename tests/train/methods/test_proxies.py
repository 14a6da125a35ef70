"""Closed forms and identities of the proxy losses, with the numbers of their formulas."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn import functional

from oodml.train.methods.proxies import (
    ProxyGraph,
    ProxyNCA,
    ProxyNCAPlusPlus,
    nearest_proxies,
    propagated_loss,
)
from oodml.train.registry import get_method

CLASSES, DIMENSION = 4, 6


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(5, DIMENSION, generator=random), dim=1)
    return embeddings, torch.tensor([0, 0, 1, 2, 3])


def test_proxy_nca_leaves_the_own_proxy_out_of_the_sum() -> None:
    loss = ProxyNCA(3, 3, scale=3.0)
    loss.proxies.data = 5 * torch.eye(3)
    # At the own proxy D^2 is 0, at the two others 2: -log(1 / (2 e^-18)), below zero.
    value = float(loss(torch.eye(3)[:1], torch.tensor([0])))
    assert value == pytest.approx(log(2) - 18, rel=1e-6)
    # At another proxy: 18 for the own, and the others give 1 + e^-18.
    value = float(loss(torch.eye(3)[1:2], torch.tensor([0])))
    assert value == pytest.approx(18 + log(1 + exp(-18)), rel=1e-6)


def test_proxy_nca_plus_plus_equals_the_library_where_that_does_not_underflow(
    batch: tuple[Tensor, Tensor],
) -> None:
    ours = ProxyNCAPlusPlus(CLASSES, DIMENSION, temperature=1 / 9)
    other = losses.ProxyNCALoss(CLASSES, DIMENSION, softmax_scale=9)
    other.proxies.data = ours.proxies.detach().clone()
    assert float(ours(*batch)) == pytest.approx(float(other(*batch)), rel=1e-4)


def test_the_hardest_samples_stay_in_proxy_nca_plus_plus() -> None:
    ours = ProxyNCAPlusPlus(2, 2, temperature=1 / 200)
    ours.proxies.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    embedding = torch.tensor([[-1.0, 0.0]], requires_grad=True)
    value = ours(embedding, torch.tensor([0]))
    value.backward()
    assert value.item() == pytest.approx(800.0)
    assert embedding.grad is not None and float(embedding.grad.abs().sum()) > 0


def test_proxy_anchor_at_right_angles() -> None:
    # All cosines 0, one sample of class 0, C proxies.
    loss = get_method("proxy_anchor").build(CLASSES, DIMENSION).loss
    loss.proxies.data = torch.eye(DIMENSION)[:CLASSES]
    each = log(1 + exp(3.2))
    value = float(loss(torch.eye(DIMENSION)[CLASSES : CLASSES + 1], torch.tensor([0])))
    assert value == pytest.approx(each + (CLASSES - 1) / CLASSES * each, rel=1e-5)


def test_proxy_anchor_does_not_depend_on_the_order(batch: tuple[Tensor, Tensor]) -> None:
    loss = get_method("proxy_anchor").build(CLASSES, DIMENSION).loss
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.allclose(loss(*batch), loss(batch[0][order], batch[1][order]))


def test_one_proxy_a_class_and_all_of_them_kept_is_a_softmax_at_temperature_one(
    batch: tuple[Tensor, Tensor],
) -> None:
    loss = ProxyGraph(CLASSES, DIMENSION, proxies_per_class=1, ratio=1.0, weight=0.0)
    cosine = batch[0] @ functional.normalize(loss.proxies, dim=1).T
    expected = float(functional.cross_entropy(cosine, batch[1]))
    assert float(loss(*batch)) == pytest.approx(expected, rel=1e-6)


def test_with_only_its_own_proxies_kept_a_sample_costs_nothing(
    batch: tuple[Tensor, Tensor],
) -> None:
    embeddings, labels = batch
    proxies = functional.normalize(torch.randn(CLASSES * 3, DIMENSION), dim=1)
    similarity = embeddings @ proxies.T
    kept = nearest_proxies(similarity, labels, 3, k=3)
    assert torch.equal(kept.nonzero()[:, 1].reshape(5, 3) // 3, labels[:, None].expand(5, 3))
    assert float(propagated_loss(similarity, kept, labels, CLASSES)) == 0.0


def test_own_proxies_rank_first_but_keep_their_similarity() -> None:
    # Own class last of all; with k = 3 the best other proxy joins the two own ones.
    similarity = torch.tensor([[0.9, 0.1, -0.8, -0.9]])
    labels = torch.tensor([1])
    kept = nearest_proxies(similarity, labels, 2, k=3)
    assert kept.tolist() == [[True, False, True, True]]
    loss = float(propagated_loss(similarity, kept, labels, 2))
    assert loss == pytest.approx(log(1 + exp(0.9 + 1.7)), rel=1e-6)


def test_a_class_whose_similarities_cancel_out_still_takes_part() -> None:
    similarity = torch.tensor([[0.5, -0.5, 0.2, 0.1]])
    kept = torch.ones(1, 4, dtype=torch.bool)
    loss = float(propagated_loss(similarity, kept, torch.tensor([1]), 2))
    assert loss == pytest.approx(log(1 + exp(-0.3)), rel=1e-6)


def test_the_proxies_own_term_equals_the_product_of_all_similarities(
    batch: tuple[Tensor, Tensor],
) -> None:
    with_term, without = (
        ProxyGraph(CLASSES, DIMENSION, proxies_per_class=3, ratio=0.5, weight=weight)
        for weight in (0.3, 0.0)
    )
    without.proxies.data = with_term.proxies.detach().clone()
    proxies = functional.normalize(with_term.proxies, dim=1)
    own = torch.arange(CLASSES).repeat_interleave(3)
    term = functional.cross_entropy(proxies @ proxies.T @ functional.one_hot(own).float(), own)
    assert float(with_term(*batch) - without(*batch)) == pytest.approx(0.3 * float(term), rel=1e-5)


def test_a_few_classes_leave_more_than_the_own_one() -> None:
    # ratio 0.05 of 48 proxies would be 3: fewer than the 12 of the own class.
    assert (
        ProxyGraph(CLASSES, DIMENSION, proxies_per_class=12, ratio=0.05, weight=0.3).nearest == 24
    )
    assert ProxyGraph(100, DIMENSION, proxies_per_class=12, ratio=0.05, weight=0.3).nearest == 60


def test_of_very_many_proxies_some_are_compared_at_every_step() -> None:
    loss = ProxyGraph(600, DIMENSION, proxies_per_class=4, ratio=0.01, weight=1.0)
    proxies = functional.normalize(loss.proxies, dim=1)
    own = torch.arange(600).repeat_interleave(4)
    exact = functional.cross_entropy(proxies @ proxies.view(600, 4, -1).sum(1).T, own)
    drawn = torch.stack([loss._between(proxies) for _ in range(3)]).detach()
    assert len(drawn.unique()) == 3
    assert torch.allclose(drawn, exact.detach(), rtol=0.02)
