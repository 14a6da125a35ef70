"""DAML: the generator, its three terms, and whom its negatives teach."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_features, make_spec
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.data import FeatureSamples
from oodml.train.loop import fit, seeded
from oodml.train.methods.daml import (
    AdversarialNegatives,
    hardness,
    loss_on,
    nearer_than_positive,
    random_triplets,
)
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Encoded, Objective, Training, make_objective
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


def daml(trunk: nn.Module | None = None, **own: Any) -> AdversarialNegatives:
    made = make("daml", trunk, **own)
    assert isinstance(made, AdversarialNegatives)
    return made


def echo(objective: AdversarialNegatives) -> None:
    """A generator that returns the negative of its triplet, exactly."""
    first, second = objective.generator[0], objective.generator[2]
    with torch.no_grad():
        for layer in (first, second):
            layer.weight.zero_()
            layer.bias.zero_()
        # x = relu(x) - relu(-x)
        for sign, rows in ((1.0, slice(0, SIZE)), (-1.0, slice(SIZE, 2 * SIZE))):
            first.weight[rows, 2 * SIZE :] = sign * torch.eye(SIZE)
            second.weight[:, rows] = sign * torch.eye(SIZE)


class _Silent(Criterion):
    """A criterion whose value on real samples is nothing."""

    def of(self, encoded: Encoded, labels: Tensor) -> Tensor:
        return 0 * encoded.embedding.sum()


class TestAdversarialNegatives:
    def test_a_generator_that_returns_the_negative(self, batch: Batch) -> None:
        objective = daml(hidden=2 * SIZE, weight=1.0, generator_rate=1e-12, **{"base.margin": 1.5})
        echo(objective)
        features = batch.inputs
        triplets = random_triplets(LABELS, 1)
        negatives = features[triplets.negatives]
        made = objective.made(features, triplets)
        torch.testing.assert_close(made, negatives)
        hard, regular = hardness(negatives, features[triplets.anchors], negatives)
        distances = np.linalg.norm(negatives - features[triplets.anchors], axis=1)
        assert float(hard) == pytest.approx((distances**2).mean(), rel=1e-5)
        assert float(regular) == 0.0

    def test_its_metric_loss_is_then_the_ordinary_one(
        self, batch: Batch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objective = daml(hidden=2 * SIZE, weight=0.7, generator_rate=1e-12, **{"base.margin": 1.5})
        echo(objective)
        triplets = random_triplets(LABELS, 1)
        monkeypatch.setattr("oodml.train.methods.daml.random_triplets", lambda *given: triplets)
        unit = functional.normalize(objective.model(batch.inputs), dim=1)
        places = (triplets.anchors, triplets.positives, triplets.negatives)
        ordinary = objective.criterion.loss(unit, LABELS, places)
        with seeded(0, "test"):
            base = objective.criterion.of(objective.encode(batch.inputs), LABELS)
        torch.testing.assert_close(loss(objective, batch), base + 0.7 * ordinary)

    def test_the_adversarial_term_by_hand(self) -> None:
        made, positive = torch.tensor([[0.0, 3.0], [0.5, 0.0]]), torch.tensor([[1.0, 0.0]] * 2)
        value = nearer_than_positive(made, torch.zeros(2, 2), positive, 0.25)
        assert float(value) == pytest.approx((1.75 + 0.0) / 2)

    def test_without_weight_it_is_the_base_bit_for_bit(self, tmp_path: Path) -> None:
        plain = trained(make("triplet"), tmp_path / "plain")
        without = trained(daml(weight=0.0), tmp_path / "without")
        with_weight = trained(daml(), tmp_path / "with")
        assert all(torch.equal(value, without[key]) for key, value in plain.items())
        assert not torch.equal(plain["model.head.weight"], with_weight["model.head.weight"])

    def test_gradients_reach_the_generator_or_the_network_and_never_both(
        self, batch: Batch
    ) -> None:
        objective = daml(nn.Linear(SIZE, SIZE))
        before = deepcopy(objective.state_dict())
        value = loss(objective, batch)
        moved = {k for k, v in objective.state_dict().items() if not torch.equal(v, before[k])}
        assert moved == {f"generator.{k}" for k in objective.generator.state_dict()}
        assert all(p.grad is None for p in objective.model.parameters())
        objective.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and p.grad.any() for p in objective.model.parameters())
        assert all(p.grad is None for p in objective.generator.parameters())

    def test_the_trunk_takes_synthetic_negatives_as_constants(self, batch: Batch) -> None:
        """Its gradient is that of anchors and positives alone."""
        objective = daml(nn.Linear(SIZE, SIZE), weight=1.0, generator_rate=1e-12)
        objective.criterion = _Silent(objective.criterion, takes_pairs=True)
        triplets = random_triplets(LABELS, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("oodml.train.methods.daml.random_triplets", lambda *given: triplets)
            loss(objective, batch).backward()  # type: ignore[no-untyped-call]
        trunk, head = objective.model.trunk, objective.model.head
        found = trunk.weight.grad.clone()
        trunk.weight.grad = None
        features = trunk(batch.inputs)
        made = objective.made(features, triplets).detach()
        loss_on(objective.criterion, head(features), LABELS, head(made), triplets).backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(found, trunk.weight.grad)

    def test_the_generator_learns_what_it_is_asked_for(self, batch: Batch) -> None:
        """With the regular term alone it comes to return the negative."""
        objective = daml(hard=0.0, adversarial=0.0, generator_rate=0.01, triplets=4)
        fixed = random_triplets(LABELS, 8)
        with torch.no_grad():
            wanted = batch.inputs[fixed.negatives]
            start = (objective.made(batch.inputs, fixed) - wanted).square().mean()
        for step in range(60):
            loss(objective, batch, step)
        with torch.no_grad():
            end = (objective.made(batch.inputs, fixed) - wanted).square().mean()
        assert end < 0.3 * start
