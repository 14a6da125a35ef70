"""Small objectives of any method, with the same first weights, and batches for them."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from conftest import make_spec
from torch import Tensor, nn

from oodml.train.data import FeatureSamples
from oodml.train.loop import seeded
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Objective, Training, make_objective
from oodml.train.registry import get_method

CLASSES, PER_CLASS, SIZE, DIMENSION = 6, 8, 10, 8

LABELS = np.arange(CLASSES).repeat(PER_CLASS)

Kind = TypeVar("Kind", bound=Objective)


def make(method: str, dimension: int = DIMENSION, steps: int = 9, **own: Any) -> Objective:
    """A method over 10 features; the same seed for every one of them."""
    spec = make_spec(method, batch_size=12, samples_per_class=3, steps=steps,
        learning_rate=0.01, criterion_learning_rate=0.01, embedding_dim=dimension,
    )  # fmt: skip
    with seeded(0, "init"):
        model = EmbeddingModel(nn.Identity(), SIZE, dimension)
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
