"""Small objectives of any method, with the same first weights, and batches and a pool for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from conftest import make_features, make_spec
from torch import Tensor, nn

from oodml.features.features import Features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources, objective_of
from oodml.train.data import FeatureSamples
from oodml.train.loop import fit, seeded
from oodml.train.methods.parts.clusters import DividedTraining
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Objective, Training, make_objective
from oodml.train.plan import plan
from oodml.train.registry import get_method

CLASSES, PER_CLASS, SIZE, DIMENSION = 6, 8, 10, 8

LABELS = np.arange(CLASSES).repeat(PER_CLASS)

PAIR_LABELS = torch.arange(CLASSES).repeat_interleave(2)

# Of the pool that is divided into clusters: 72 samples make 3 batches an epoch.
POOL_CLASSES, POOL_PER_CLASS = 12, 6

POOL_SETTINGS: dict[str, Any] = {"batch_size": 24, "embedding_dim": 8, "steps": 12}

SLICES, MASKS = "divide_and_conquer", "hierarchical_divide_and_conquer"

Kind = TypeVar("Kind", bound=Objective)


def make(
    method: str,
    dimension: int = DIMENSION,
    steps: int = 9,
    trunk: nn.Module | None = None,
    **own: Any,
) -> Objective:
    """A method over 10 features; the same seed for every one of them."""
    spec = make_spec(method, batch_size=12, samples_per_class=3, steps=steps,
        learning_rate=0.01, criterion_learning_rate=0.01, embedding_dim=dimension,
    )  # fmt: skip
    with seeded(0, "init"):
        model = EmbeddingModel(trunk or nn.Identity(), SIZE, dimension)
        built = get_method(method).build_with(CLASSES, dimension, own)
        return make_objective(built, spec, model)


def of(kind: type[Kind], method: str, **own: Any) -> Kind:
    made = make(method, **own)
    assert isinstance(made, kind)
    return made


def samples() -> FeatureSamples:
    random = np.random.default_rng(0)
    values = random.standard_normal((4, len(LABELS), SIZE)).astype(np.float32)
    values += np.eye(CLASSES, SIZE, dtype=np.float32)[LABELS]
    return FeatureSamples(values[0], LABELS, values)


def training() -> Training:
    return Training(samples(), 0)


def batch(seed: int = 0, rows: int = 12) -> Batch:
    random = torch.Generator().manual_seed(seed)
    views = tuple(torch.randn(rows, SIZE, generator=random) for _ in range(2))
    labels = torch.arange(rows) // 3 % CLASSES
    return Batch(views, labels, torch.arange(rows))


def value(objective: Objective, given: Batch, seed: int = 0) -> Tensor:
    with seeded(seed, "value"):
        return objective.loss(given)


def trained(objective: Objective, directory: Path) -> dict[str, Tensor]:
    """The weights of the model after a short training."""
    directory.mkdir()
    fit(objective, training(), directory)
    return {k: v for k, v in objective.state_dict().items() if k.startswith("model.")}


@pytest.fixture
def pairs() -> Batch:
    """Two samples of each class."""
    inputs = torch.randn(12, SIZE, generator=torch.Generator().manual_seed(1))
    return Batch((inputs,), PAIR_LABELS, torch.arange(12))


@pytest.fixture(scope="module")
def pool() -> Features:
    return make_features(POOL_CLASSES, POOL_PER_CLASS, 8)


@pytest.fixture(scope="module")
def pool_ladder(pool: Features) -> Ladder:
    return build_ladder(pool, rungs=2)


@pytest.fixture
def pool_training(pool: Features) -> Training:
    return Training(FeatureSamples(pool.values, pool.labels), 0)


def planned(
    method: str, pool: Features, ladder: Ladder, trunk: nn.Module | None = None, **settings: Any
) -> Objective:
    """The objective of a run that is planned on the pool."""
    (spec,) = plan(ladder, [method], [0], rungs=[0], **{**POOL_SETTINGS, **settings})
    samples = FeatureSamples(pool.values, pool.labels)
    objective = objective_of(spec, samples, POOL_CLASSES, Resources(pool), 0)
    if trunk is not None:
        objective.model.trunk = trunk
    return objective


def divided(method: str, pool: Features, ladder: Ladder, **settings: Any) -> Any:
    objective = planned(method, pool, ladder, **settings)
    assert isinstance(objective, DividedTraining)
    return objective


def batch_of(training: Training, index: Any, step: int = 0) -> Batch:
    rows = torch.as_tensor(index)
    inputs = training.samples.evaluation(rows.numpy())
    return Batch((inputs,), training.labels[rows], rows, step)
