"""Cross-batch memory: its queue, its identities with the base loss, and its state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_spec
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError
from oodml.train.data import FeatureSamples
from oodml.train.methods.parts.queue import Queue
from oodml.train.methods.xbm import CrossBatchMemory, loss_against
from oodml.train.model import EmbeddingModel
from oodml.train.objective import (
    Batch,
    Criterion,
    Objective,
    Training,
    as_criterion,
    make_objective,
)
from oodml.train.registry import get_method

CLASSES, SIZE, DIMENSION = 6, 10, 8
LABELS = torch.arange(CLASSES).repeat_interleave(2)
# One base a kind: every pair, a miner of pairs, a miner of triplets, one miner that draws.
BASES = ["contrastive", "multi_similarity", "triplet", "margin"]


def make(
    method: str = "xbm", samples: int = 12, steps: int = 100, **hyperparameters: Any
) -> Objective:
    torch.manual_seed(0)
    spec = make_spec(method, batch_size=samples, steps=steps)
    model = EmbeddingModel(nn.Identity(), SIZE, DIMENSION)
    built = get_method(method).build_with(CLASSES, DIMENSION, hyperparameters)
    return make_objective(built, spec, model)


def xbm(**hyperparameters: Any) -> CrossBatchMemory:
    made = make("xbm", **{"warmup": 0.0, "memory_size": 12, **hyperparameters})
    assert isinstance(made, CrossBatchMemory)
    return made


def batch(seed: int = 0, step: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(LABELS), SIZE, generator=random)
    return Batch((inputs,), LABELS, torch.arange(len(LABELS)), step)


def value(objective: Objective, given: Batch, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return objective.loss(given)


@pytest.mark.parametrize("base", BASES)
def test_without_weight_it_is_the_base_loss(base: str) -> None:
    assert torch.equal(value(xbm(base=base, weight=0.0), batch()), value(make(base), batch()))


@pytest.mark.parametrize("base", ["contrastive", "sup_con", "multi_similarity"])
def test_a_memory_of_one_batch_doubles_the_loss(base: str) -> None:
    alone = value(make(base), batch())
    objective = xbm(base=base)
    for _ in range(3):
        # Whatever was in the queue before, the batch has taken its place.
        objective.loss(batch(seed=7))
        assert torch.allclose(value(objective, batch()), 2 * alone)


def test_a_drawing_miner_never_meets_a_sample_s_own_copy() -> None:
    class Recorder(nn.Module):
        def forward(
            self,
            embeddings: Tensor,
            labels: Tensor,
            tuples: Any,
            references: Tensor,
            labels_too: Tensor,
        ) -> Tensor:
            anchors, positives, _ = tuples
            assert (anchors != positives).all() and (anchors < len(LABELS)).all()
            assert torch.equal(references[: len(labels)], embeddings)
            assert not references.requires_grad
            seen.extend(positives.tolist())
            return embeddings.sum()

    seen: list[int] = []
    miner = as_criterion(get_method("margin").build(CLASSES, DIMENSION)).miner
    criterion = Criterion(Recorder(), miner, takes_references=True)
    older = functional.normalize(torch.randn(24, DIMENSION), dim=1)
    now = functional.normalize(torch.randn(12, DIMENSION), dim=1).requires_grad_()
    for _ in range(5):
        loss_against(criterion, now, LABELS, older, LABELS.repeat(2))
    assert max(seen) >= 12 and min(seen) < 12


def test_the_easiest_positive_is_not_the_sample_itself() -> None:
    # methods.md 6.1: with the library's memory an easy-positive loss is 0 from its first step.
    alone = value(make("easy_positive"), batch())
    doubled = value(xbm(base="easy_positive"), batch())
    assert alone > 0 and torch.allclose(doubled, 2 * alone)


@pytest.mark.parametrize("base", ["contrastive", "multi_similarity"])
def test_the_order_of_the_queue_does_not_matter(base: str) -> None:
    criterion = as_criterion(get_method(base).build(CLASSES, DIMENSION))
    older = functional.normalize(torch.randn(24, DIMENSION), dim=1)
    labels = LABELS.repeat(2)
    now = functional.normalize(torch.randn(12, DIMENSION), dim=1)
    order = torch.randperm(24)
    first = loss_against(criterion, now, LABELS, older, labels)
    second = loss_against(criterion, now, LABELS, older[order], labels[order])
    assert torch.allclose(first, second) and first > 0


def test_no_gradient_flows_into_the_queue() -> None:
    # Every pair of a batch moves both of its ends; against the copies in the queue, only one.
    gradients = []
    for objective in (make("contrastive"), xbm()):
        objective.loss(batch()).backward()
        gradients.append(objective.model.head.weight.grad)
    assert torch.allclose(gradients[1], 1.5 * gradients[0], atol=1e-6)


def test_the_queue_holds_the_newest_and_goes_round() -> None:
    queue = Queue(5, 1)
    rows = [queue.push(torch.full((2, 1), float(i)), torch.tensor([i, i])) for i in range(4)]
    assert [row.tolist() for row in rows] == [[0, 1], [2, 3], [4, 0], [1, 2]]
    older, labels = queue.without(rows[-1])
    assert sorted(labels.tolist()) == [1, 2, 2] and older.flatten().tolist() == labels.tolist()
    with pytest.raises(ValueError, match="does not fit"):
        queue.push(torch.zeros(6, 1), torch.zeros(6, dtype=torch.long))
    half = Queue(5, 1)
    assert half.without(half.push(torch.ones(2, 1), torch.tensor([0, 0])))[1].tolist() == []


def test_it_starts_after_its_share_of_the_run() -> None:
    objective = make("xbm", steps=40, memory_size=12, warmup=0.1)
    assert isinstance(objective, CrossBatchMemory)
    values = np.zeros((len(LABELS), SIZE), np.float32)
    objective.begin_epoch(Training(FeatureSamples(values, LABELS.numpy()), 0), 0)
    alone = value(make("contrastive"), batch())
    losses = [value(objective, batch(step=step)) for step in range(6)]
    factors = [round((loss / alone).item(), 4) for loss in losses]
    assert factors == [1.0] * 4 + [2.0] * 2


def test_its_state_is_saved() -> None:
    first, second = xbm(memory_size=30), xbm(memory_size=30)
    for seed in range(4):
        first.loss(batch(seed))
    second.load_state_dict(first.state_dict())
    assert {"queue.embeddings", "queue.labels", "queue.pushed", "start"} <= set(second.state_dict())
    assert torch.equal(value(first, batch(9)), value(second, batch(9)))


@pytest.mark.parametrize("base", ["arcface", "proxy_anchor", "normalized_softmax"])
def test_a_loss_without_pairs_is_refused(base: str) -> None:
    with pytest.raises(UsageError, match=f"base={base}"):
        xbm(base=base)


def test_a_memory_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(UsageError, match=r"memory_size=11 .* 12"):
        xbm(memory_size=11)
