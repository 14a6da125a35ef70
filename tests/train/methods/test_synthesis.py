"""Synthetic negatives: which bases judge them, and what they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_spec
from torch import Tensor, nn
from torch.nn import functional

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.train.build import Resources
from oodml.train.loop import seeded
from oodml.train.methods.daml import (
    loss_on,
    random_triplets,
)
from oodml.train.methods.hdml import n_pair_triplets
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Objective, constant, make_objective
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


@pytest.fixture
def batch() -> Batch:
    inputs = torch.randn(12, SIZE, generator=torch.Generator().manual_seed(1))
    return Batch((inputs,), LABELS, torch.arange(12))


def loss(objective: Objective, batch: Batch, seed: int = 0) -> Tensor:
    with seeded(seed, "test"):
        return objective.loss(batch)


@pytest.mark.parametrize("base", ["arcface", "proxy_anchor", "soft_triple"])
@pytest.mark.parametrize("method", ["daml", "hdml"])
def test_a_base_that_judges_no_given_pairs_is_refused(method: str, base: str) -> None:
    with pytest.raises(UsageError, match=f"base={base}"):
        make(method, base=base)


@pytest.mark.parametrize("base", ["contrastive", "margin", "multi_similarity", "n_pair"])
@pytest.mark.parametrize("method", ["daml", "hdml"])
def test_losses_over_pairs_are_bases(method: str, base: str, batch: Batch) -> None:
    assert loss(make(method, base=base), batch).isfinite()


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
