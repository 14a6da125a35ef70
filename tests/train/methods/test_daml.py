"""DAML: the generator, its three terms, whom its negatives teach, and which bases judge them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from train.methods.conftest import (
    CLASSES,
    DIMENSION,
    PAIR_LABELS,
    SIZE,
    make,
    of,
    trained,
    value,
)

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.train.build import Resources
from oodml.train.loop import seeded
from oodml.train.methods.daml import (
    AdversarialNegatives,
    hardness,
    loss_on,
    nearer_than_positive,
    random_triplets,
)
from oodml.train.objective import Batch, Criterion, Encoded, constant
from oodml.train.plan import plan
from oodml.train.registry import get_method
from oodml.train.run import train_run


def daml(trunk: nn.Module | None = None, **own: Any) -> AdversarialNegatives:
    return of(AdversarialNegatives, "daml", trunk=trunk, **own)


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
    def test_a_generator_that_returns_the_negative(self, pairs: Batch) -> None:
        objective = daml(hidden=2 * SIZE, weight=1.0, generator_rate=1e-12, **{"base.margin": 1.5})
        echo(objective)
        features = pairs.inputs
        triplets = random_triplets(PAIR_LABELS, 1)
        negatives = features[triplets.negatives]
        made = objective.made(features, triplets)
        torch.testing.assert_close(made, negatives)
        hard, regular = hardness(negatives, features[triplets.anchors], negatives)
        distances = np.linalg.norm(negatives - features[triplets.anchors], axis=1)
        assert float(hard) == pytest.approx((distances**2).mean(), rel=1e-5)
        assert float(regular) == 0.0

    def test_its_metric_loss_is_then_the_ordinary_one(
        self, pairs: Batch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objective = daml(hidden=2 * SIZE, weight=0.7, generator_rate=1e-12, **{"base.margin": 1.5})
        echo(objective)
        triplets = random_triplets(PAIR_LABELS, 1)
        monkeypatch.setattr("oodml.train.methods.daml.random_triplets", lambda *given: triplets)
        unit = functional.normalize(objective.model(pairs.inputs), dim=1)
        places = (triplets.anchors, triplets.positives, triplets.negatives)
        ordinary = objective.criterion.loss(unit, PAIR_LABELS, places)
        with seeded(0, "value"):
            base = objective.criterion.of(objective.encode(pairs.inputs), PAIR_LABELS)
        torch.testing.assert_close(value(objective, pairs), base + 0.7 * ordinary)

    def test_the_adversarial_term_by_hand(self) -> None:
        made, positive = torch.tensor([[0.0, 3.0], [0.5, 0.0]]), torch.tensor([[1.0, 0.0]] * 2)
        total = nearer_than_positive(made, torch.zeros(2, 2), positive, 0.25)
        assert float(total) == pytest.approx((1.75 + 0.0) / 2)

    def test_without_weight_it_is_the_base_bit_for_bit(self, tmp_path: Path) -> None:
        plain = trained(make("triplet"), tmp_path / "plain")
        without = trained(daml(weight=0.0), tmp_path / "without")
        with_weight = trained(daml(), tmp_path / "with")
        assert all(torch.equal(value, without[key]) for key, value in plain.items())
        assert not torch.equal(plain["model.head.weight"], with_weight["model.head.weight"])

    def test_gradients_reach_the_generator_or_the_network_and_never_both(
        self, pairs: Batch
    ) -> None:
        objective = daml(nn.Linear(SIZE, SIZE))
        before = deepcopy(objective.state_dict())
        total = value(objective, pairs)
        moved = {k for k, v in objective.state_dict().items() if not torch.equal(v, before[k])}
        assert moved == {f"generator.{k}" for k in objective.generator.state_dict()}
        assert all(p.grad is None for p in objective.model.parameters())
        objective.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and p.grad.any() for p in objective.model.parameters())
        assert all(p.grad is None for p in objective.generator.parameters())

    def test_the_trunk_takes_synthetic_negatives_as_constants(self, pairs: Batch) -> None:
        """Its gradient is that of anchors and positives alone."""
        objective = daml(nn.Linear(SIZE, SIZE), weight=1.0, generator_rate=1e-12)
        objective.criterion = _Silent(objective.criterion, takes_pairs=True)
        triplets = random_triplets(PAIR_LABELS, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("oodml.train.methods.daml.random_triplets", lambda *given: triplets)
            value(objective, pairs).backward()  # type: ignore[no-untyped-call]
        trunk, head = objective.model.trunk, objective.model.head
        found = trunk.weight.grad.clone()
        trunk.weight.grad = None
        features = trunk(pairs.inputs)
        made = objective.made(features, triplets).detach()
        loss_on(objective.criterion, head(features), PAIR_LABELS, head(made), triplets).backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(found, trunk.weight.grad)

    def test_the_generator_learns_what_it_is_asked_for(self, pairs: Batch) -> None:
        """With the regular term alone it comes to return the negative."""
        objective = daml(hard=0.0, adversarial=0.0, generator_rate=0.01, triplets=4)
        fixed = random_triplets(PAIR_LABELS, 8)
        with torch.no_grad():
            wanted = pairs.inputs[fixed.negatives]
            start = (objective.made(pairs.inputs, fixed) - wanted).square().mean()
        for step in range(60):
            value(objective, pairs, step)
        with torch.no_grad():
            end = (objective.made(pairs.inputs, fixed) - wanted).square().mean()
        assert end < 0.3 * start


@pytest.mark.parametrize("base", ["arcface", "proxy_anchor", "soft_triple"])
@pytest.mark.parametrize("method", ["daml", "hdml"])
def test_a_base_that_judges_no_given_pairs_is_refused(method: str, base: str) -> None:
    with pytest.raises(UsageError, match=f"base={base}"):
        make(method, base=base)


@pytest.mark.parametrize("base", ["contrastive", "margin", "multi_similarity", "n_pair"])
@pytest.mark.parametrize("method", ["daml", "hdml"])
def test_losses_over_pairs_are_bases(method: str, base: str, pairs: Batch) -> None:
    assert value(make(method, base=base), pairs).isfinite()


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


class TestTriplets:
    def test_random_triplets_are_triplets_and_as_many_as_asked_for(self) -> None:
        labels = torch.tensor([0, 0, 1, 1, 1, 2])
        found = random_triplets(labels, 4)
        assert len(found) == 4 * 5  # the last one has no positive
        assert (labels[found.anchors] == labels[found.positives]).all()
        assert (found.anchors != found.positives).all()
        assert (labels[found.anchors] != labels[found.negatives]).all()
        for labels in (torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0])):
            assert len(random_triplets(labels, 4)) == 0

    def test_a_loss_on_real_negatives_is_the_ordinary_one(self) -> None:
        """Every synthetic negative in the place of the real one that it copies."""
        criterion = get_method("triplet").build(CLASSES, DIMENSION, margin=1.5)
        outputs = torch.randn(12, DIMENSION, generator=torch.Generator().manual_seed(3))
        triplets = random_triplets(PAIR_LABELS, 1)
        copies = outputs[triplets.negatives]
        places = (triplets.anchors, triplets.positives, triplets.negatives)
        expected = criterion(functional.normalize(outputs, dim=1), PAIR_LABELS, places)
        assert float(expected) > 0.1
        torch.testing.assert_close(
            loss_on(criterion, outputs, PAIR_LABELS, copies, triplets), expected
        )


def test_constants_pass_gradients_to_inputs_only() -> None:
    layer, inputs = nn.Linear(3, 2), torch.ones(1, 3, requires_grad=True)
    constant(layer, inputs).sum().backward()  # type: ignore[no-untyped-call]
    assert inputs.grad is not None and torch.equal(inputs.grad[0], layer.weight.sum(0))
    assert layer.weight.grad is None


def test_the_published_settings_are_recipes() -> None:
    assert get_method("daml").recipes["sop"].hyperparameters["triplets"] == 100
