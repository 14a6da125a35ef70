"""HDML: pulled negatives, the generator and trust in it."""

from __future__ import annotations

from copy import deepcopy
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from train.methods.conftest import CLASSES, DIMENSION, PAIR_LABELS, SIZE, make, of, trained, value

from oodml.train.loop import seeded
from oodml.train.methods.daml import loss_on
from oodml.train.methods.hdml import HardnessAware, n_pair_triplets, pulled
from oodml.train.objective import Batch
from oodml.train.registry import get_method


def hdml(trunk: nn.Module | None = None, **own: Any) -> HardnessAware:
    return of(HardnessAware, "hdml", trunk=trunk, **own)


class TestHardnessAware:
    def test_trust_starts_near_one_and_follows_the_generators_loss(self) -> None:
        objective = hdml(beta=1e4)
        assert objective.trust() == pytest.approx(exp(-0.01))
        objective.generator_loss.fill_(5e3)
        assert objective.trust() == pytest.approx(exp(-2))
        objective.generator_loss.fill_(0.0)
        assert objective.trust() == 0.0
        assert hdml(beta=0.0).trust() == 1.0
        assert hdml(beta=1e30).trust() == 0.0

    def test_beta_zero_is_the_base_bit_for_bit(self, tmp_path: Path) -> None:
        plain = trained(make("n_pair"), tmp_path / "plain")
        without = trained(hdml(beta=0.0), tmp_path / "without")
        with_trust = trained(hdml(beta=1e3), tmp_path / "with")
        assert all(torch.equal(value, without[key]) for key, value in plain.items())
        assert not torch.equal(plain["model.head.weight"], with_trust["model.head.weight"])

    def test_alpha_zero_pulls_nothing_and_a_large_loss_hardly_does(self) -> None:
        outputs = torch.randn(12, DIMENSION, generator=torch.Generator().manual_seed(2))
        triplets = n_pair_triplets(PAIR_LABELS)
        negatives = outputs[triplets.negatives]
        still = hdml(alpha=0.0)
        still.real_loss.fill_(1e-9)
        torch.testing.assert_close(still._pulled(outputs, triplets), negatives)
        objective = hdml(alpha=90.0)  # before the first step
        moved = (objective._pulled(outputs, triplets) - negatives).norm(dim=1)
        assert float(moved.max()) < 1e-3
        objective.real_loss.fill_(0.0)
        near = (objective._pulled(outputs, triplets) - outputs[triplets.anchors]).norm(dim=1)
        reach = (outputs[triplets.positives] - outputs[triplets.anchors]).norm(dim=1)
        assert (near <= reach + 1e-5).all()

    def test_the_loss_in_words(self, pairs: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the two networks and the numbers of the last step make of one batch."""
        objective = hdml(alpha=2.0, beta=3e3, balance=0.25, class_weight=7.0)
        objective.real_loss.fill_(3.0)
        objective.generator_loss.fill_(4e3)
        triplets = n_pair_triplets(PAIR_LABELS)
        monkeypatch.setattr("oodml.train.methods.hdml.n_pair_triplets", lambda *given: triplets)
        before = deepcopy(objective)
        total = value(objective, pairs)
        with torch.no_grad(), seeded(0, "value"):
            encoded = before.encode(pairs.inputs)
            real = before.criterion.of(encoded, PAIR_LABELS)
            z = encoded.output
            parts = (z[triplets.anchors], z[triplets.positives], z[triplets.negatives])
            tuples = torch.cat([z, pulled(*parts, exp(-2 / 3))])
            rebuilt, made = before.generator(tuples).split([12, len(triplets)])
            mistaken = functional.cross_entropy(
                before.classifier(made), PAIR_LABELS[triplets.negatives]
            )
            of_generator = 0.75 * (pairs.inputs - rebuilt).square().sum() + 0.25 * 7 * mistaken
            again = before.model.head(objective.generator(tuples))  # it has made its step
            synthetic = loss_on(before.criterion, again[:12], PAIR_LABELS, again[12:], triplets)
        trust = exp(-3 / 4)
        torch.testing.assert_close(total.detach(), trust * real + (1 - trust) * synthetic)
        torch.testing.assert_close(objective.generator_loss, of_generator)
        torch.testing.assert_close(objective.real_loss, real)
        assert not objective.generator_loss.requires_grad

    def test_gradients_reach_the_networks_through_the_generator_and_leave_it(
        self, pairs: Batch
    ) -> None:
        objective = hdml(nn.Linear(SIZE, SIZE))
        objective.generator_loss.fill_(1e-9)  # synthetic tuples alone
        before = deepcopy(objective.state_dict())
        total = value(objective, pairs)
        moved = {k for k, v in objective.state_dict().items() if not torch.equal(v, before[k])}
        private = {f"{part}." for part in ("generator", "classifier")}
        assert {k for k in moved if not k.endswith("_loss")} == {
            k for k in before if any(k.startswith(part) for part in private)
        }
        for optimizer in objective.optimizers.values():
            optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and p.grad.any() for p in objective.model.parameters())
        for part in (objective.generator, objective.classifier):
            assert all(p.grad is None for p in part.parameters())

    def test_the_classifier_learns_from_real_features_only(self, pairs: Batch) -> None:
        objective = hdml(class_weight=1e4, classifier_rate=1e-3)
        expected = deepcopy(objective.classifier)
        optimizer = torch.optim.Adam(expected.parameters(), lr=1e-3)
        for step in range(3):
            value(objective, pairs, step)
            optimizer.zero_grad()
            functional.cross_entropy(expected(pairs.inputs), PAIR_LABELS).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        torch.testing.assert_close(objective.classifier.weight, expected.weight)

    def test_the_generator_comes_to_rebuild_features(self, pairs: Batch) -> None:
        """As far as the head's outputs tell them, which is eight of ten dimensions."""
        objective = hdml(balance=0.0)
        values = []
        for step in range(60):
            value(objective, pairs, step)
            values.append(float(objective.generator_loss))
        assert values[-1] < 0.3 * values[0]


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


class TestNPairTriplets:
    @pytest.mark.parametrize(("asked", "found"), [(0, 5), (2, 2), (5, 5), (9, 5)])
    def test_a_pair_of_each_class_with_the_positives_of_others(
        self, asked: int, found: int
    ) -> None:
        triplets = n_pair_triplets(PAIR_LABELS, asked)
        assert len(triplets) == CLASSES * found
        assert (PAIR_LABELS[triplets.anchors] == PAIR_LABELS[triplets.positives]).all()
        assert (PAIR_LABELS[triplets.anchors] != PAIR_LABELS[triplets.negatives]).all()
        assert set(triplets.negatives.tolist()) <= set(triplets.positives.tolist())
        drawn = set(zip(triplets.anchors.tolist(), triplets.negatives.tolist(), strict=True))
        assert len(drawn) == len(triplets)

    def test_one_class_and_single_samples_make_none(self) -> None:
        assert len(n_pair_triplets(torch.tensor([3, 3, 3]))) == 0
        assert len(n_pair_triplets(torch.tensor([0, 1, 2]))) == 0


def test_the_published_settings_are_recipes() -> None:
    recipes = get_method("hdml").recipes
    assert recipes["cars196"].hyperparameters == {"beta": 1e4, "negatives": 0}
    assert recipes["cub200"].hyperparameters["beta"] == 5e3
