"""DAML and HDML: closed forms, identities with their base, and whom gradients reach."""

from __future__ import annotations

from copy import deepcopy
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_features, make_spec
from torch import Tensor, nn
from torch.nn import functional

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.features import extract_features
from oodml.splits.build import build_ladder
from oodml.train.build import Resources
from oodml.train.data import FeatureSamples
from oodml.train.loop import fit, seeded
from oodml.train.methods.daml import (
    AdversarialNegatives,
    hardness,
    nearer_than_positive,
    random_triplets,
)
from oodml.train.methods.hdml import HardnessAware, n_pair_triplets, pulled
from oodml.train.methods.parts.synthesis import loss_on
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Encoded, Objective, Training, make_objective
from oodml.train.plan import plan
from oodml.train.registry import get_method
from oodml.train.run import train_run

CLASSES, SIZE, DIMENSION = 6, 10, 8
LABELS = torch.arange(CLASSES).repeat_interleave(2)


def make(method: str, trunk: nn.Module | None = None, **own: Any) -> Objective:
    torch.manual_seed(0)
    spec = make_spec(method, batch_size=12, learning_rate=0.01)
    model = EmbeddingModel(trunk or nn.Identity(), SIZE, DIMENSION)
    return make_objective(get_method(method).build_with(CLASSES, DIMENSION, own), spec, model)


def daml(trunk: nn.Module | None = None, **own: Any) -> AdversarialNegatives:
    made = make("daml", trunk, **own)
    assert isinstance(made, AdversarialNegatives)
    return made


def hdml(trunk: nn.Module | None = None, **own: Any) -> HardnessAware:
    made = make("hdml", trunk, **own)
    assert isinstance(made, HardnessAware)
    return made


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


@pytest.mark.parametrize("base", ["arcface", "proxy_anchor", "soft_triple"])
@pytest.mark.parametrize("method", ["daml", "hdml"])
def test_a_base_that_judges_no_given_pairs_is_refused(method: str, base: str) -> None:
    with pytest.raises(UsageError, match=f"{method}: base={base} does not judge pairs"):
        make(method, base=base)


@pytest.mark.parametrize("base", ["contrastive", "margin", "multi_similarity", "n_pair"])
@pytest.mark.parametrize("method", ["daml", "hdml"])
def test_losses_over_pairs_are_bases(method: str, base: str, batch: Batch) -> None:
    assert loss(make(method, base=base), batch).isfinite()


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


class _Silent(Criterion):
    """A criterion whose value on real samples is nothing."""

    def of(self, encoded: Encoded, labels: Tensor) -> Tensor:
        return 0 * encoded.embedding.sum()


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


@pytest.mark.parametrize("method", ["daml", "hdml"])
def test_whole_networks_train(method: str, image_folder: Path, tmp_path: Path) -> None:
    dataset, backbone = load_dataset(image_folder), load_backbone("tiny")
    pool = extract_features(dataset, backbone, cache=tmp_path)
    ladder = build_ladder(pool, rungs=2)
    (spec,) = plan(
        ladder, [method], [0], rungs=[0], train="all", steps=3, batch_size=12, embedding_dim=8
    )
    record = train_run(spec, ladder.rungs[0], Resources(pool, dataset, backbone), tmp_path / "run")
    assert np.isfinite(record.training["loss"]) and record.metrics["queries"] > 0


def test_the_published_settings_are_recipes() -> None:
    recipes = get_method("hdml").recipes
    assert recipes["cars196"].hyperparameters == {"beta": 1e4, "negatives": 0}
    assert recipes["cub200"].hyperparameters["beta"] == 5e3
    assert get_method("daml").recipes["sop"].hyperparameters["triplets"] == 100
