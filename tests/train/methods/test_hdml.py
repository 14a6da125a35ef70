"""HDML: pulled negatives, the generator and trust in it."""

from __future__ import annotations

from copy import deepcopy
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_features, make_spec
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.data import FeatureSamples
from oodml.train.loop import fit, seeded
from oodml.train.methods.daml import loss_on
from oodml.train.methods.hdml import HardnessAware, n_pair_triplets, pulled
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Objective, Training, make_objective
from oodml.train.registry import get_method

CLASSES, SIZE, DIMENSION = 6, 10, 8

LABELS = torch.arange(CLASSES).repeat_interleave(2)


def make(method: str, trunk: nn.Module | None = None, **own: Any) -> Objective:
    torch.manual_seed(0)
    spec = make_spec(method, batch_size=12, learning_rate=0.01)
    model = EmbeddingModel(trunk or nn.Identity(), SIZE, DIMENSION)
    return make_objective(get_method(method).build_with(CLASSES, DIMENSION, own), spec, model)


@pytest.fixture
def batch() -> Batch:
    inputs = torch.randn(12, SIZE, generator=torch.Generator().manual_seed(1))
    return Batch((inputs,), LABELS, torch.arange(12))


def loss(objective: Objective, batch: Batch, seed: int = 0) -> Tensor:
    with seeded(seed, "test"):
        return objective.loss(batch)


def trained(objective: Objective, directory: Path, steps: int = 12) -> dict[str, Tensor]:
    pool = make_features(CLASSES, 4, SIZE)
    directory.mkdir()
    objective.spec = make_spec("m", batch_size=12, samples_per_class=2, steps=steps)
    fit(objective, Training(FeatureSamples(pool.values, pool.labels), 0), directory)
    return {k: v for k, v in objective.state_dict().items() if k.startswith("model.")}


def hdml(trunk: nn.Module | None = None, **own: Any) -> HardnessAware:
    made = make("hdml", trunk, **own)
    assert isinstance(made, HardnessAware)
    return made


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
        triplets = n_pair_triplets(LABELS)
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

    def test_the_loss_in_words(self, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the two networks and the numbers of the last step make of one batch."""
        objective = hdml(alpha=2.0, beta=3e3, balance=0.25, class_weight=7.0)
        objective.real_loss.fill_(3.0)
        objective.generator_loss.fill_(4e3)
        triplets = n_pair_triplets(LABELS)
        monkeypatch.setattr("oodml.train.methods.hdml.n_pair_triplets", lambda *given: triplets)
        before = deepcopy(objective)
        value = loss(objective, batch)
        with torch.no_grad(), seeded(0, "test"):
            encoded = before.encode(batch.inputs)
            real = before.criterion.of(encoded, LABELS)
            z = encoded.output
            parts = (z[triplets.anchors], z[triplets.positives], z[triplets.negatives])
            tuples = torch.cat([z, pulled(*parts, exp(-2 / 3))])
            rebuilt, made = before.generator(tuples).split([12, len(triplets)])
            mistaken = functional.cross_entropy(before.classifier(made), LABELS[triplets.negatives])
            of_generator = 0.75 * (batch.inputs - rebuilt).square().sum() + 0.25 * 7 * mistaken
            again = before.model.head(objective.generator(tuples))  # it has made its step
            synthetic = loss_on(before.criterion, again[:12], LABELS, again[12:], triplets)
        trust = exp(-3 / 4)
        torch.testing.assert_close(value.detach(), trust * real + (1 - trust) * synthetic)
        torch.testing.assert_close(objective.generator_loss, of_generator)
        torch.testing.assert_close(objective.real_loss, real)
        assert not objective.generator_loss.requires_grad

    def test_gradients_reach_the_networks_through_the_generator_and_leave_it(
        self, batch: Batch
    ) -> None:
        objective = hdml(nn.Linear(SIZE, SIZE))
        objective.generator_loss.fill_(1e-9)  # synthetic tuples alone
        before = deepcopy(objective.state_dict())
        value = loss(objective, batch)
        moved = {k for k, v in objective.state_dict().items() if not torch.equal(v, before[k])}
        private = {f"{part}." for part in ("generator", "classifier")}
        assert {k for k in moved if not k.endswith("_loss")} == {
            k for k in before if any(k.startswith(part) for part in private)
        }
        for optimizer in objective.optimizers.values():
            optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and p.grad.any() for p in objective.model.parameters())
        for part in (objective.generator, objective.classifier):
            assert all(p.grad is None for p in part.parameters())

    def test_the_classifier_learns_from_real_features_only(self, batch: Batch) -> None:
        objective = hdml(class_weight=1e4, classifier_rate=1e-3)
        expected = deepcopy(objective.classifier)
        optimizer = torch.optim.Adam(expected.parameters(), lr=1e-3)
        for step in range(3):
            loss(objective, batch, step)
            optimizer.zero_grad()
            functional.cross_entropy(expected(batch.inputs), LABELS).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        torch.testing.assert_close(objective.classifier.weight, expected.weight)

    def test_the_generator_comes_to_rebuild_features(self, batch: Batch) -> None:
        """As far as the head's outputs tell them, which is eight of ten dimensions."""
        objective = hdml(balance=0.0)
        values = []
        for step in range(60):
            loss(objective, batch, step)
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
