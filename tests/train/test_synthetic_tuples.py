"""The parts of synthetic negatives: tuples, pulling, constants, and the loss on what was made."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from oodml.train.methods.daml import random_triplets
from oodml.train.methods.hdml import n_pair_triplets, pulled
from oodml.train.methods.parts.synthesis import constant, loss_on
from oodml.train.registry import get_method

CLASSES, DIMENSION = 6, 8
LABELS = torch.arange(CLASSES).repeat_interleave(2)


class TestPulling:
    anchor, positive, negative = (
        torch.tensor([point]) for point in ([0.0, 0.0], [1.0, 0.0], [0.0, 3.0])
    )

    @pytest.mark.parametrize(("kept", "expected"), [(0.5, 2.0), (0.0, 1.0), (1.0, 3.0)])
    def test_a_negative_comes_as_near_as_the_positive(self, kept: float, expected: float) -> None:
        moved = pulled(self.anchor, self.positive, self.negative, kept)
        assert torch.allclose(moved, torch.tensor([[0.0, expected]]))

    def test_a_negative_nearer_than_the_positive_stays(self) -> None:
        near = torch.tensor([[0.3, 0.4]])
        assert torch.equal(pulled(self.anchor, self.positive, near, 0.0), near)

    def test_a_negative_on_its_anchor_has_a_finite_gradient(self) -> None:
        points = [self.anchor.clone().requires_grad_() for _ in range(3)]
        pulled(*points, 0.5).sum().backward()  # type: ignore[no-untyped-call]
        assert all(point.grad is not None and point.grad.isfinite().all() for point in points)


class TestTuples:
    def test_random_triplets_are_triplets_and_as_many_as_asked_for(self) -> None:
        labels = torch.tensor([0, 0, 1, 1, 1, 2])
        found = random_triplets(labels, 4)
        assert len(found) == 4 * 5  # the last one has no positive
        assert (labels[found.anchors] == labels[found.positives]).all()
        assert (found.anchors != found.positives).all()
        assert (labels[found.anchors] != labels[found.negatives]).all()
        for labels in (torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0])):
            assert len(random_triplets(labels, 4)) == 0

    @pytest.mark.parametrize(("asked", "found"), [(0, 5), (2, 2), (5, 5), (9, 5)])
    def test_a_pair_of_each_class_with_the_positives_of_others(
        self, asked: int, found: int
    ) -> None:
        triplets = n_pair_triplets(LABELS, asked)
        assert len(triplets) == CLASSES * found
        assert (LABELS[triplets.anchors] == LABELS[triplets.positives]).all()
        assert (LABELS[triplets.anchors] != LABELS[triplets.negatives]).all()
        assert set(triplets.negatives.tolist()) <= set(triplets.positives.tolist())
        pairs = set(zip(triplets.anchors.tolist(), triplets.negatives.tolist(), strict=True))
        assert len(pairs) == len(triplets)

    def test_one_class_and_single_samples_make_none(self) -> None:
        assert len(n_pair_triplets(torch.tensor([3, 3, 3]))) == 0
        assert len(n_pair_triplets(torch.tensor([0, 1, 2]))) == 0

    def test_a_loss_on_real_negatives_is_the_ordinary_one(self) -> None:
        """Every synthetic negative in the place of the real one that it copies."""
        criterion = get_method("triplet").build(CLASSES, DIMENSION, margin=1.5)
        outputs = torch.randn(12, DIMENSION, generator=torch.Generator().manual_seed(3))
        triplets = random_triplets(LABELS, 1)
        copies = outputs[triplets.negatives]
        places = (triplets.anchors, triplets.positives, triplets.negatives)
        expected = criterion(functional.normalize(outputs, dim=1), LABELS, places)
        assert float(expected) > 0.1
        torch.testing.assert_close(loss_on(criterion, outputs, LABELS, copies, triplets), expected)


def test_constants_pass_gradients_to_inputs_only() -> None:
    layer, inputs = nn.Linear(3, 2), torch.ones(1, 3, requires_grad=True)
    constant(layer, inputs).sum().backward()  # type: ignore[no-untyped-call]
    assert inputs.grad is not None and torch.equal(inputs.grad[0], layer.weight.sum(0))
    assert layer.weight.grad is None
