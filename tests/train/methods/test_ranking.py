"""Closed forms and identities of the losses that smooth a ranking."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn import functional

from oodml.errors import UsageError
from oodml.train.registry import get_method

Batch = tuple[Tensor, Tensor]
# Two classes on the axes, and both mixed up on one axis.
APART = torch.eye(4)[[0, 0, 1, 1]]
MIXED = torch.eye(4)[[0, 1, 0, 1]]
LABELS = torch.tensor([0, 0, 1, 1])


@pytest.fixture
def batch() -> Batch:
    random = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(12, 6, generator=random), dim=1)
    return embeddings, torch.arange(4).repeat_interleave(3)


def value(name: str, embeddings: Tensor, labels: Tensor, **hyperparameters: object) -> float:
    return float(get_method(name).build(5, 6, **hyperparameters)(embeddings, labels))


@pytest.mark.parametrize("name", ["fast_ap", "smooth_ap", "pnp", "histogram"])
def test_a_perfect_ranking_costs_nothing(name: str) -> None:
    assert value(name, APART, LABELS) == pytest.approx(0.0, abs=1e-6)
    assert value(name, MIXED, LABELS) > 0.3


def test_smooth_ap_of_classes_mixed_up() -> None:
    # The negative beside the anchor ties with it, the other one with the positive, which the
    # anchor itself comes before: ranks 1.5 and 3.5 (2 among positives), so AP (1/1.5 + 2/3.5) / 2.
    expected = 1 - (1 / 1.5 + 2 / 3.5) / 2
    assert value("smooth_ap", MIXED, LABELS) == pytest.approx(expected, rel=1e-5)


def smoothed(embeddings: Tensor, labels: Tensor) -> float:
    cosines = (embeddings.double() @ embeddings.double().T).numpy()
    terms = []
    for q in range(len(labels)):
        own = [i for i in range(len(labels)) if labels[i] == labels[q]]
        precision = 0.0
        for i in own:
            steps = 1 / (1 + np.exp(-(np.delete(cosines[q] - cosines[q, i], i)) / 0.01))
            same = np.delete((labels == labels[q]).numpy(), i)
            precision += (1 + steps[same].sum()) / (1 + steps.sum()) / len(own)
        terms.append(1 - precision)
    return float(np.mean(terms))


def test_smooth_ap_is_the_mean_over_anchors_of_smoothed_precision(batch: Batch) -> None:
    assert value("smooth_ap", *batch) == pytest.approx(smoothed(*batch), rel=1e-4)


def test_smooth_ap_equals_the_library_for_as_many_classes_as_samples_of_each(batch: Batch) -> None:
    # With 4 classes of 3 the library takes the batch for 3 classes of 4.
    library = losses.SmoothAPLoss()
    embeddings, labels = batch
    found = value("smooth_ap", embeddings[:9], labels[:9])
    assert found == pytest.approx(float(library(embeddings[:9], labels[:9])), rel=1e-4)
    assert abs(float(library(embeddings, labels)) - smoothed(embeddings, labels)) > 0.01


def test_smooth_ap_takes_classes_of_any_size_in_any_order(batch: Batch) -> None:
    embeddings, labels = batch
    expected = value("smooth_ap", embeddings, labels)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert value("smooth_ap", embeddings[order], labels[order]) == pytest.approx(expected)
    uneven = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4])
    assert 0 < value("smooth_ap", embeddings, uneven) < 1
    with pytest.raises(ValueError, match="same number"):
        losses.SmoothAPLoss()(embeddings, uneven)


@pytest.mark.parametrize("penalty", ["O", "Iu", "Ib", "Ds", "Dq"])
def test_pnp_equals_the_library(penalty: str, batch: Batch) -> None:
    library = losses.PNPLoss(variant=penalty, alpha=2, b=3)
    found = value("pnp", *batch, penalty=penalty, alpha=2.0, base=3.0)
    assert found == pytest.approx(float(library(*batch)), rel=1e-4)


def test_pnp_counts_the_negatives_before_a_positive() -> None:
    # Half a negative stands before the anchor itself, 1.5 before its positive.
    assert value("pnp", MIXED, LABELS) == pytest.approx((0.5 + 1.5) / 2, rel=1e-5)
    with pytest.raises(UsageError, match="Dq"):
        value("pnp", MIXED, LABELS, penalty="Dp")


def test_the_histogram_loss_is_the_chance_of_the_wrong_order() -> None:
    # Positives at 0; of 8 negatives 4 at 1 and 4 at 0, and equal ones count as wrong.
    assert value("histogram", MIXED, LABELS) == pytest.approx(1.0, abs=1e-5)
    # Positives at 1, negatives at 0.
    assert value("histogram", APART, LABELS) == pytest.approx(0.0, abs=1e-5)


def test_the_histogram_loss_interpolates_between_nodes() -> None:
    # With 2 bins the nodes are -1, 0, 1. A positive at cosine .6 lies at 0 (.4) and 1 (.6), the
    # negatives at .8 and 0: densities .2 + 1 and .8 over 2 at the nodes 0 and 1.
    points = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    expected = 0.4 * (1 + 0.2) / 2 + 1.0 * 0.8 / 2
    found = value("histogram", points, torch.tensor([0, 0, 1]), bins=2)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_histogram_loss_equals_the_library(batch: Batch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of torch, about how theirs indexes.
        expected = float(losses.HistogramLoss(n_bins=40)(*batch))
    assert value("histogram", *batch, bins=40) == pytest.approx(expected, rel=1e-4)


def test_the_histogram_loss_bears_a_cosine_above_one() -> None:
    # A rounding puts the cosine of equal vectors above 1, where the library has no bin.
    points = torch.full((6, 6), 6**-0.5) * (1 + 1e-6)
    points.requires_grad_()
    loss = get_method("histogram").build(5, 6)(points, torch.arange(3).repeat(2))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0) and torch.isfinite(points.grad).all()


def test_fast_ap_of_classes_mixed_up() -> None:
    # D^2 = 2 is the middle of 10 bins on [0, 4]: up to there stand the positive and all negatives,
    # of which one stands at 0. AP is the positives over all up to the positive's place: 1/3.
    assert value("fast_ap", MIXED, LABELS) == pytest.approx(1 - 1 / 3, rel=1e-5)


def test_fast_ap_is_the_mean_over_anchors_of_interpolated_precision(batch: Batch) -> None:
    embeddings, labels = batch
    nodes = torch.linspace(0, 4, 18)
    precisions = []
    for i in range(12):
        others = torch.arange(12) != i
        squares = (embeddings - embeddings[i]).square().sum(1)[others]
        share = (1 - (squares[:, None] - nodes).abs() / (4 / 17)).clamp(min=0)
        positive = share[labels[others] == labels[i]].sum(0)
        ahead = share.sum(0).cumsum(0)
        term = positive * positive.cumsum(0) / ahead.clamp(min=1e-9)
        precisions.append(float(term.sum()) / 2)
    expected = 1 - math.fsum(precisions) / 12
    assert value("fast_ap", embeddings, labels, bins=17) == pytest.approx(expected, rel=1e-4)
