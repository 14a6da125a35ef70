"""What every registered method must do, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_features

from oodml.eval.retrieval.evaluate import evaluate
from oodml.features.features import Features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.train import checkpoint
from oodml.train.build import Resources, objective_of, samples_of
from oodml.train.cached_views import Views
from oodml.train.data import FeatureSamples
from oodml.train.loop import fit, seeded
from oodml.train.objective import Batch, Objective, Training, check_groups
from oodml.train.plan import plan
from oodml.train.registry import all_methods
from oodml.train.run import train_run

METHODS = all_methods()
TRAINED = [name for name, entry in METHODS.items() if entry.trains]
CLASSES, PER_CLASS, DIMENSION = 12, 6, 8
METRIC = "mean_average_precision_at_r"


@pytest.fixture(scope="module")
def pool() -> Features:
    return make_features(CLASSES, PER_CLASS, DIMENSION)


@pytest.fixture(scope="module")
def small_ladder(pool: Features) -> Ladder:
    return build_ladder(pool, rungs=2)


def versions(pool: Features, number: int = 4) -> Views:
    """What augmented images give: every sample a little off its place, (number, n, C) float32."""
    random = np.random.default_rng(7)
    noise = random.standard_normal((number, *pool.values.shape))
    return (pool.values + 0.2 * pool.values.std(axis=0) * noise).astype(np.float32)


def resources(pool: Features) -> Resources:
    return Resources(pool, views=versions(pool))


def training_of(objective: Objective, pool: Features) -> Training:
    """All samples of the pool, as a run of the objective's spec reads them."""
    given = samples_of(objective.spec, pool.class_names, resources(pool), views=True)
    return Training(given, 0)


def made(name: str, pool: Features, ladder: Ladder, **settings: object) -> Objective:
    """The objective of a method over all classes of the pool, as a run makes it."""
    chosen = {"batch_size": 24, "embedding_dim": 6, **settings}
    (spec,) = plan(ladder, [name], [0], rungs=[0], **chosen)  # type: ignore[arg-type]
    samples = FeatureSamples(pool.values, pool.labels)
    return objective_of(spec, samples, CLASSES, resources(pool), 0)


def batch_of(pool: Features, labels: list[int], views: int) -> Batch:
    """The first samples of the classes in `labels`, in that order; views are cached versions."""
    seen: dict[int, int] = {}
    rows = []
    for label in labels:
        rows.append(label * PER_CLASS + seen.get(label, 0) % PER_CLASS)
        seen[label] = seen.get(label, 0) + 1
    index = torch.tensor(rows)
    seen_as = [pool.values] if views == 1 else list(versions(pool))[:views]
    inputs = tuple(torch.from_numpy(values)[index] for values in seen_as)
    return Batch(inputs, torch.tensor(labels), index)


def loss_of(objective: Objective, batch: Batch, seed: int = 0) -> float:
    """The loss with its gradients, on a copy, so that no state of the objective moves."""
    copy = deepcopy(objective)
    with seeded(seed, "conformance"):
        loss = copy.loss(batch)
    if loss.requires_grad:
        loss.backward()
    for name, parameter in copy.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    return float(loss.detach())


HARD_BATCHES = {
    "two classes": [0, 0, 0, 1, 1, 1],
    "a class with one sample": [0, 0, 1, 1, 2],
    "only single samples": [0, 1, 2, 3],
    "not divisible by the samples per class": [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2],
    "one class": [3, 3, 3, 3],
}


@pytest.mark.parametrize("name", TRAINED)
def test_losses_and_gradients_are_finite_on_hard_batches(
    name: str, pool: Features, small_ladder: Ladder
) -> None:
    objective = made(name, pool, small_ladder)
    for kind, labels in HARD_BATCHES.items():
        assert np.isfinite(loss_of(objective, batch_of(pool, labels, objective.views))), kind
    balanced = batch_of(pool, [0, 0, 1, 1, 2, 2], objective.views)
    with torch.no_grad():
        objective.model.head.weight.zero_()
        objective.model.head.bias.fill_(1.0)
    assert np.isfinite(loss_of(objective, balanced)), "identical embeddings"
    with torch.no_grad():
        objective.model.head.bias.zero_()
    assert np.isfinite(loss_of(objective, balanced)), "embeddings of length zero"


@pytest.mark.parametrize("name", TRAINED)
def test_the_order_of_a_batch_does_not_matter(
    name: str, pool: Features, small_ladder: Ladder
) -> None:
    """Methods that draw at random are seen by their draws and left out."""
    objective = made(name, pool, small_ladder)
    batch = batch_of(pool, [0, 0, 1, 1, 2, 2, 3, 3], objective.views)
    value = loss_of(objective, batch)
    order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
    permuted = Batch(
        tuple(view[order] for view in batch.views), batch.labels[order], batch.index[order]
    )
    if any(loss_of(objective, batch, seed) != value for seed in range(1, 4)):
        assert name in DRAWING, f"{name} draws at random; list it if it should"
        return
    assert loss_of(objective, permuted) == pytest.approx(value, rel=1e-4, abs=1e-6)


# Methods whose loss draws triplets, noise, anchors or a dropout.
DRAWING = {"triplet", "margin", "r_margin", "uniform_prior", "s2sd", "n_pair", "angular"}
DRAWING |= {"mic", "sharing", "diva", "pads"}
DRAWING |= {"group_loss", "group_loss_pp", "mpn"}
DRAWING |= {"daml", "hdml"}
DRAWING |= {"divide_and_conquer", "hierarchical_divide_and_conquer"}


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_is_declared_once_and_is_trained(
    name: str, pool: Features, small_ladder: Ladder, tmp_path: Path
) -> None:
    objective = made(name, pool, small_ladder, steps=12)
    check_groups(objective)
    before = {k: v.detach().clone() for k, v in objective.named_parameters() if v.requires_grad}
    figures = fit(objective, training_of(objective, pool), tmp_path)
    assert np.isfinite(figures["loss"])
    after = dict(objective.named_parameters())
    assert [name for name, value in before.items() if torch.equal(value, after[name])] == []


class KilledError(Exception):
    """Stands for a process that ends between two steps."""


@pytest.mark.parametrize("name", TRAINED)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    name: str, pool: Features, small_ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    make: Callable[[], Objective] = lambda: made(name, pool, small_ladder, steps=9)  # noqa: E731
    straight, broken, resumed = make(), make(), make()
    training = training_of(straight, pool)
    for directory in ("straight", "resumed"):
        (tmp_path / directory).mkdir()
    figures = fit(straight, training, tmp_path / "straight")
    after_step = broken.after_step

    def die(training: Training, batch: Batch) -> None:
        after_step(training, batch)
        if batch.step == 5:
            raise KilledError

    monkeypatch.setattr(broken, "after_step", die)
    with pytest.raises(KilledError):
        fit(broken, training, tmp_path / "resumed")
    torch.manual_seed(99)
    assert fit(resumed, training, tmp_path / "resumed") == figures
    state = resumed.state_dict()
    for key, value in straight.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("name", TRAINED)
def test_an_embedding_does_not_depend_on_the_rest_of_its_batch(
    name: str, pool: Features, small_ladder: Ladder
) -> None:
    objective = made(name, pool, small_ladder).eval()
    inputs = torch.from_numpy(pool.values)
    with torch.no_grad():
        together = objective.embed(inputs)
        alone = torch.cat([objective.embed(inputs[i : i + 1]) for i in range(5)])
    assert torch.allclose(together[:5], alone, atol=1e-6)
    assert torch.allclose(together.norm(dim=1), torch.ones(len(inputs)), atol=1e-5)


@pytest.fixture(scope="module")
def hidden_signal() -> tuple[Features, Ladder]:
    """methods.md 9.4: classes that differ in few of many dimensions, half of them held out."""
    random = np.random.default_rng(0)
    means = np.concatenate([random.standard_normal((40, 6)), np.zeros((40, 10))], axis=1)
    scale = np.array([0.5] * 6 + [1.0] * 10)
    values = np.repeat(means, 12, axis=0) + scale * random.standard_normal((480, 16))
    pool = replace(make_features(40, 12, 2), values=values.astype(np.float32))
    return pool, build_ladder(pool, rungs=2)


@pytest.fixture(scope="module")
def untrained(
    hidden_signal: tuple[Features, Ladder], tmp_path_factory: pytest.TempPathFactory
) -> float:
    """What a random linear head is worth on the held-out classes."""
    pool, ladder = hidden_signal
    directory = tmp_path_factory.mktemp("untrained")
    (spec,) = plan(
        ladder, ["contrastive"], [0], rungs=[0], steps=0, batch_size=48, embedding_dim=16
    )
    return train_run(spec, ladder.rungs[0], Resources(pool), directory).metrics[METRIC]


# Squared errors of 20 cosines, 19 of them to other classes, start slowly.
STEPS = {"p2s_grad": 700, "proxy_anchor": 250, "diva": 300}


@pytest.mark.parametrize("name", [n for n, e in METHODS.items() if e.training != "none"])
def test_training_helps_on_held_out_classes(
    name: str, hidden_signal: tuple[Features, Ladder], untrained: float, tmp_path: Path
) -> None:
    pool, ladder = hidden_signal
    settings = {"batch_size": 48, "embedding_dim": 16, "steps": STEPS.get(name, 150)}
    (spec,) = plan(ladder, [name], [0], rungs=[0], **settings)  # type: ignore[arg-type]
    record = train_run(spec, ladder.rungs[0], resources(pool), tmp_path / "trained")
    assert record.metrics[METRIC] > untrained + 0.02


@pytest.mark.parametrize("name", METHODS)
def test_a_record_says_what_made_it(
    name: str, pool: Features, small_ladder: Ladder, tmp_path: Path
) -> None:
    settings = {"batch_size": 24, "embedding_dim": 6, "steps": 2}
    (spec,) = plan(small_ladder, [name], [0], rungs=[1], **settings)  # type: ignore[arg-type]
    record = train_run(spec, small_ladder.rungs[1], resources(pool), tmp_path)
    assert record.metrics["queries"] == len(pool.of_classes(small_ladder.rungs[1].test_classes))
    assert 0 <= record.metrics[METRIC] <= 1
    entry = METHODS[name]
    assert entry.paper == "-" or ":" in entry.paper or "." in entry.paper
    assert entry.summary.endswith(".") and len(entry.summary) < 110
    assert entry.source or entry.training == "none", "say where the defaults come from"
    assert evaluate(pool)["queries"] == len(pool)
