"""MoCo: its loss in closed form, what its queue holds and when, and who follows whom."""

from __future__ import annotations

from math import log
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
from oodml.train.data import FeatureSamples
from oodml.train.methods.moco import AgainstQueue, MomentumContrast
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Training, check_groups, make_objective
from oodml.train.plan import plan
from oodml.train.registry import get_method
from oodml.train.run import train_run

LABELS = torch.arange(4).repeat_interleave(2)
TRAINING = Training(FeatureSamples(np.zeros((8, 6), np.float32), LABELS.numpy()), 0)


def make(**own: Any) -> MomentumContrast:
    torch.manual_seed(0)
    spec = make_spec("moco", batch_size=8, learning_rate=0.01)
    model = EmbeddingModel(nn.Identity(), 6, 4)
    built = get_method("moco").build_with(4, 4, {"memory_size": 16, **own})
    made = make_objective(built, spec, model)
    assert isinstance(made, MomentumContrast)
    return made


def batch(seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, len(LABELS), 6, generator=random)
    return Batch((one, other), LABELS, torch.arange(len(LABELS)))


def unit(*shape: int) -> Tensor:
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_a_queue_of_7_copies_of_the_positive_key_costs_ln_8(temperature: float) -> None:
    key = unit(1, 5)
    loss = AgainstQueue(temperature)
    value = loss(unit(3, 5)[:1], torch.tensor([0]), key, key.expand(7, -1), torch.arange(1, 8))
    assert value.item() == pytest.approx(2.0794, abs=1e-4)
    assert value.item() == pytest.approx(log(8))


def by_hand(queries: Tensor, keys: Tensor, older: Tensor, apart: Tensor, t: float) -> float:
    losses = []
    for number, query in enumerate(queries):
        own = (query @ keys[number] / t).exp()
        others = (older[apart[number]] @ query / t).exp().sum()
        losses.append(-(own / (own + others)).log())
    return torch.stack(losses).mean().item()


def test_keys_of_the_query_s_class_are_no_negatives() -> None:
    queries, keys, older = unit(2, 5), unit(5, 5)[3:], unit(9, 5)[3:]
    labels, older_labels = torch.tensor([0, 1]), torch.tensor([0, 0, 1, 2, 2, 3])
    apart = older_labels[None] != labels[:, None]
    value = AgainstQueue(0.5)(queries, labels, keys, older, older_labels)
    assert value.item() == pytest.approx(by_hand(queries, keys, older, apart, 0.5), rel=1e-5)
    everything = torch.ones_like(apart)
    assert value.item() != pytest.approx(by_hand(queries, keys, older, everything, 0.5), rel=1e-2)


def test_supervised_keys_of_the_query_s_class_are_positives() -> None:
    queries, keys, older = unit(1, 5), unit(5, 5)[3:4], unit(9, 5)[3:6]
    older_labels = torch.tensor([0, 1, 2])
    loss = AgainstQueue(0.5, supervised=True)
    value = loss(queries, torch.tensor([0]), keys, older, older_labels)
    apart = torch.tensor([[False, True, True]])
    terms = [by_hand(queries, key, older, apart, 0.5) for key in (keys, older[:1])]
    assert value.item() == pytest.approx(sum(terms) / 2, rel=1e-5)


def test_a_batch_is_compared_with_the_batches_before_it_and_enters_the_queue_then() -> None:
    objective = make()
    assert objective.loss(batch(0)).item() == 0.0  # There is nothing to be told from yet.
    first = functional.normalize(objective.slow(batch(0).views[1]))
    assert torch.equal(objective.queue.held()[0], first)
    second = functional.normalize(objective.slow(batch(1).views[1]))
    queries = functional.normalize(objective.model(batch(1).views[0]))
    apart = LABELS[None] != LABELS[:, None]
    expected = by_hand(queries, second, first, apart, 0.07)
    assert objective.loss(batch(1)).item() == pytest.approx(expected, rel=1e-4)
    assert torch.equal(objective.queue.held()[0], torch.cat([first, second]))
    objective.loss(batch(2))  # The queue holds 16: the third batch takes the first one's place.
    assert torch.equal(objective.queue.held()[0][8:], second)


def test_the_slow_copy_follows_after_the_step_and_gets_no_gradient() -> None:
    objective = make(momentum=0.75)
    check_groups(objective)
    start = objective.model.head.weight.detach().clone()
    objective.loss(batch(0))
    objective.loss(batch(1)).backward()
    assert all(p.grad is None for p in objective.slow.parameters())
    gradient = objective.model.head.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0
    with torch.no_grad():
        objective.model.head.weight -= gradient
    assert torch.equal(objective.slow.model.head.weight, start)
    objective.after_step(TRAINING, batch(1))
    assert torch.allclose(objective.slow.model.head.weight, start - 0.25 * gradient)


def test_momentum_1_freezes_the_keys_and_momentum_0_makes_them_the_network_s() -> None:
    for momentum in (0.0, 1.0):
        objective = make(momentum=momentum)
        start = objective.slow.model.head.weight.clone()
        with torch.no_grad():
            objective.model.head.weight.add_(1.0)
        objective.after_step(TRAINING, batch())
        wanted = start if momentum else objective.model.head.weight
        assert torch.equal(objective.slow.model.head.weight, wanted)


def test_its_settings_are_checked() -> None:
    for own, message in (
        ({"momentum": 1.5}, "momentum=1.5"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"memory_size": 7}, "memory_size=7 .* 8"),
    ):
        with pytest.raises(UsageError, match=message):
            make(**own)


def test_the_queue_and_the_slow_copy_are_in_its_state() -> None:
    first, second = make(), make()
    for seed in range(3):
        first.loss(batch(seed))
        with torch.no_grad():
            first.model.head.weight.add_(0.1)
        first.after_step(TRAINING, batch(seed))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.loss(batch(3)), second.loss(batch(3)))
    assert torch.equal(first.queue.embeddings, second.queue.embeddings)


def test_it_trains_whole_networks_on_images(image_folder: Path, tmp_path: Path) -> None:
    dataset, backbone = load_dataset(image_folder), load_backbone("tiny")
    pool = extract_features(dataset, backbone, cache=tmp_path / "cache")
    ladder = build_ladder(pool, rungs=2)
    (spec,) = plan(
        ladder, ["moco:memory_size=16"], [0], rungs=[0], train="all", steps=3, batch_size=8,
        embedding_dim=8, image_size=32,
    )  # fmt: skip
    resources = Resources(pool, dataset, backbone)
    record = train_run(spec, ladder.rungs[0], resources, tmp_path / "run")
    assert np.isfinite(record.training["loss"]) and record.training["steps"] == 3
