"""PADS: the histogram's draws, the policy's step by hand, the hold-out, and what stays the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_features, make_spec
from torch import Tensor
from torch.nn import functional

from oodml.data import load_dataset
from oodml.errors import DataError, UsageError
from oodml.eval.retrieval.evaluate import evaluate
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.runs.spec import RunSpec
from oodml.splits.construction.build_ladder import build_ladder
from oodml.train import checkpoint
from oodml.train.build import Resources
from oodml.train.data import FeatureSamples
from oodml.train.loop import fit, seeded
from oodml.train.methods.pads import (
    Histogram,
    History,
    LearnedSampling,
    ProximalPolicy,
    figures_of,
    held_out,
    surrogate,
)
from oodml.train.model import EmbeddingModel, Standardize
from oodml.train.objective import Batch, Criterion, Objective, Training, make_objective
from oodml.train.plan import plan
from oodml.train.registry import get_method
from oodml.train.run import train_run

CLASSES, PER_CLASS, DIMENSION = 8, 10, 6
BINS = 29


@pytest.fixture(scope="module")
def pool() -> Features:
    return make_features(CLASSES, PER_CLASS, DIMENSION)


def training_of(pool: Features) -> Training:
    return Training(FeatureSamples(pool.values, pool.labels), 0)


def spec_of(method: str, **settings: Any) -> RunSpec:
    return make_spec(method, embedding_dim=4,
        **{"batch_size": 24, "steps": 12, **settings},
    )  # fmt: skip


def make(pool: Features, steps: int = 12, **own: Any) -> LearnedSampling:
    given = {"every": 2, "holdout": 0.2, **own}
    with seeded(0, "init"):
        model = EmbeddingModel(Standardize(torch.from_numpy(pool.values)), DIMENSION, 4)
        built = get_method("pads").build_with(CLASSES, 4, given)
        made = make_objective(built, spec_of("pads", steps=steps), model)
    assert isinstance(made, LearnedSampling)
    return made


def on_circle(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def chances(histogram: Histogram, points: Tensor, labels: Tensor) -> Tensor:
    """The chance (B, B) of every sample to be the negative of every anchor, as it is drawn."""
    seen: list[Tensor] = []
    whole = histogram.chances
    histogram.chances = lambda *given: seen.append(whole(*given)) or seen[0]  # type: ignore
    histogram(points, labels)
    return seen[0]


def test_the_histogram_has_29_bins_from_01_to_14_and_begins_between_03_and_07() -> None:
    histogram = Histogram()
    distances = torch.tensor([0.0, 0.05, 0.1, 0.14, 0.15, 0.75, 1.36, 1.39, 1.4, 2.0])
    assert histogram.bins(distances).tolist() == [0, 0, 0, 0, 1, 14, 28, 28, 28, 28]
    edges = np.linspace(0.1, 1.4, 30)
    centers = (edges[1:] + edges[:-1]) / 2
    inside = (centers > 0.3) & (centers < 0.7)
    assert inside.sum() == 9
    expected = np.where(inside, 1 / 9, 0.0)
    assert np.allclose(histogram.probabilities.numpy(), expected, atol=1e-12)
    assert (histogram.probabilities > 0).all()


def test_equal_weights_without_self_regularisation_draw_every_negative_as_often() -> None:
    histogram = Histogram(self_regularized=False)
    histogram.weights.fill_(1.0)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    found = chances(histogram, on_circle(0, 10, 20, 40, 80, 170), labels)
    negative = labels[:, None] != labels[None, :]
    assert torch.equal(found, torch.where(negative, 0.25, 0.0))


def test_negatives_are_drawn_by_the_weight_of_their_distance_s_bin() -> None:
    histogram = Histogram(self_regularized=False)
    # Chords of 30, 60 and 80 degrees: 0.518, 1.000 and 1.286.
    points, labels = on_circle(0, 5, 30, 60, 80, 80), torch.tensor([0, 0, 1, 1, 2, 2])
    histogram.weights.fill_(1e-25)
    chosen = histogram.bins(torch.tensor([0.518, 1.0, 1.286]))
    histogram.weights[chosen] = torch.tensor([2.0, 5.0, 1.0]).double()
    found = chances(histogram, points, labels)[0].tolist()
    assert found == pytest.approx([0, 0, 2 / 9, 5 / 9, 1 / 9, 1 / 9])


def test_negatives_come_as_often_as_their_chance() -> None:
    torch.manual_seed(0)
    points, labels = on_circle(0, 30, 60, 80), torch.tensor([0, 0, 1, 1])
    histogram = Histogram()
    histogram.weights.uniform_(0.1, 1.0)
    counts = torch.zeros(4, 4)
    for _ in range(300):
        anchors, _, negatives = histogram(points, labels)
        counts[anchors, negatives] += 1
    # Four standard deviations of a share of 1/2.
    assert (counts / 300 - chances(histogram, points, labels)).abs().max() < 4 * (0.25 / 300) ** 0.5


def test_self_regularisation_keeps_positives_and_the_anchor_among_the_negatives() -> None:
    points, labels = on_circle(0, 5, 30, 60), torch.tensor([0, 0, 1, 1])
    histogram = Histogram()
    histogram.weights.fill_(1.0)
    histogram.weights[0] = 2.0  # Where the anchor itself and the first positive, at 5 degrees, lie.
    found = chances(histogram, points, labels)
    assert found[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 6, 1 / 6])
    assert found[2].tolist() == pytest.approx([1 / 5, 1 / 5, 2 / 5, 1 / 5])
    alone = Histogram(self_regularized=False)
    assert (chances(alone, points, labels)[:2, :2] == 0).all()


def test_positives_are_others_of_the_class_and_lonely_anchors_are_left_out() -> None:
    points, labels = on_circle(0, 5, 10, 60, 90), torch.tensor([0, 0, 0, 1, 2])
    seen = set()
    for _ in range(60):
        anchors, positives, _ = Histogram()(points, labels)
        assert anchors.tolist() == [0, 1, 2]
        seen |= set(zip(anchors.tolist(), positives.tolist(), strict=True))
    assert seen == {(a, p) for a in range(3) for p in range(3) if a != p}


def test_weights_are_multiplied_and_kept_within_reach() -> None:
    histogram = Histogram()
    histogram.weights.fill_(1.0)
    factors = torch.ones(BINS)
    factors[3], factors[5] = 0.8, 1.25
    histogram.multiply(factors.double())
    expected = np.ones(BINS)
    expected[3], expected[5] = 0.8, 1.25
    assert np.allclose(histogram.probabilities.numpy(), expected / expected.sum())
    for factor, bound in ((1e-20, 1e-25), (1e30, 1e25)):
        for _ in range(3):
            histogram.multiply(torch.full((BINS,), factor))
        assert (histogram.weights == bound).all()


def test_the_figures_are_those_of_the_evaluator_and_of_numpy(pool: Features) -> None:
    unit = functional.normalize(torch.from_numpy(pool.values), dim=1)
    labels = torch.from_numpy(pool.labels)
    found = figures_of(unit, labels, nmi=True)
    names = [f"recall_at_{k}" for k in (1, 2, 4, 8)]
    scores = evaluate(pool, metrics=names)
    assert found[:4].tolist() == pytest.approx([scores[name] for name in names], abs=1e-6)
    values = unit.numpy().astype(float)
    pairs = [(i, j) for i in range(len(values)) for j in range(len(values)) if i != j]
    for same, figure in ((True, found[4]), (False, found[5])):
        chosen = [(i, j) for i, j in pairs if (labels[i] == labels[j]).item() is same]
        mean = np.mean([1 - values[i] @ values[j] for i, j in chosen])
        assert figure.item() == pytest.approx(mean, rel=1e-4)
    assert found[6].item() == pytest.approx(evaluate(pool, metrics=["nmi"])["nmi"], abs=1e-5)
    assert len(figures_of(unit, labels)) == 6


def test_the_history_gives_the_last_20_and_the_running_means() -> None:
    history = History(figures=2)
    history.add(torch.tensor([3.0, 4.0]))
    assert torch.equal(history.summary(), torch.tensor([3.0, 4.0]).repeat(24))
    for number in range(40):
        history.add(torch.tensor([float(number), -1.0]))
    summary = history.summary().view(24, 2)
    assert len(history.summary()) == history.size == 48
    assert summary[:20, 0].tolist() == list(range(20, 40))
    assert summary[20:, 0].tolist() == [38.5, 35.5, 31.5, 23.5]
    assert history.values[-1].tolist() == [39.0, -1.0]


def proximal(**own: Any) -> ProximalPolicy:
    torch.manual_seed(0)
    given = {"learning_rate": 0.01, "refresh": 3, **own}
    return ProximalPolicy(5, 4, 3, **given)


def test_the_ratio_is_1_right_after_the_old_policy_is_copied() -> None:
    agent = proximal()
    states = torch.randn(7, 5)
    ones = []
    for number in range(1, 7):
        agent.act(states[number - 1])
        agent.learn(1.0 if number % 2 else -1.0, states[number])
        ones.append(bool((agent.ratio() == 1).all()))
    assert ones == [False, False, True, False, False, True]


def test_a_step_of_the_policy_is_that_of_its_formula() -> None:
    agent = proximal()
    state, following = torch.randn(2, 5)
    chosen = agent.act(state).clone()
    assert chosen.shape == (4,) and set(chosen.tolist()) <= {0, 1, 2}
    probabilities, value = agent.policy(state)
    target = 1.0 + 0.99 * agent.policy(following)[1].item()
    advantage = target - value.item()
    # At a ratio of 1 the surrogate's gradient is that of the log-probability, times the advantage.
    picked = probabilities[torch.arange(4), chosen]
    loss = -(advantage * picked).mean() + 0.5 * (value - target).square()
    parameters = list(agent.policy.parameters())
    expected = torch.autograd.grad(loss, parameters)
    agent.learn(1.0, following)
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_ratios_beyond_the_clip_gain_nothing() -> None:
    ratio = torch.tensor([0.5, 1.0, 1.1, 1.5])
    assert surrogate(ratio, torch.tensor(2.0), 0.2).tolist() == pytest.approx([1.0, 2.0, 2.2, 2.4])
    assert surrogate(ratio, torch.tensor(-1.0), 0.2).tolist() == pytest.approx(
        [-0.8, -1.0, -1.1, -1.5]
    )


def test_a_rewarded_action_becomes_likelier_and_a_punished_one_less_so() -> None:
    for reward in (1.0, -1.0):
        agent = proximal(refresh=100)
        state = torch.randn(5)
        agent.act(state)
        before = agent.policy(state)[1].item()
        agent.learn(reward * 100, state)
        sign = np.sign(reward * 100 + 0.99 * before - before)
        assert ((agent.ratio() - 1) * sign > 0).all()


def test_the_hold_out_is_a_share_of_every_class() -> None:
    labels = np.repeat(np.arange(5), [20, 20, 10, 4, 3])
    held = held_out(labels, 0.2, 512, seed=0)
    assert Counter(labels[held].tolist()) == {0: 4, 1: 4, 2: 2, 3: 2}
    assert len(set(held.tolist())) == len(held) and (np.diff(held) > 0).all()
    assert np.array_equal(held, held_out(labels, 0.2, 512, seed=0))
    assert not np.array_equal(held, held_out(labels, 0.2, 512, seed=1))


def test_a_capped_hold_out_takes_less_of_every_class_then_fewer_classes() -> None:
    labels = np.repeat(np.arange(10), 40)
    fewer = Counter(labels[held_out(labels, 0.25, 50, seed=0)].tolist())
    assert fewer == dict.fromkeys(range(10), 5)
    pairs = Counter(labels[held_out(labels, 0.25, 12, seed=0)].tolist())
    assert len(pairs) == 6 and set(pairs.values()) == {2}
    with pytest.raises(DataError, match=r"0 of 10 .* 4"):
        held_out(np.repeat(np.arange(10), 3), 0.15, 512, seed=0)


def test_what_is_held_out_is_never_trained_on_and_all_that_is_measured(
    pool: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = training_of(pool)
    objective = make(pool)
    held = set(objective.held(training).tolist())
    assert len(held) == 2 * CLASSES
    trained: set[int] = set()
    measured: list[int] = []
    monkeypatch.setattr(
        FeatureSamples, "begin",
        lambda self, index, draw, begin=FeatureSamples.begin: (
            trained.update(index.tolist()), begin(self, index, draw)
        )[1],
    )  # fmt: skip
    evaluation = FeatureSamples.evaluation
    fit(objective, training, tmp_path)
    monkeypatch.setattr(
        FeatureSamples, "evaluation",
        lambda self, index, **flip: (measured.extend(index), evaluation(self, index, **flip))[1],
    )  # fmt: skip
    objective._figures(training)
    assert trained and not trained & held
    assert set(map(int, measured)) == held


class Static(Objective):
    """The same loss on the same batches, with a histogram that nobody changes."""

    def loader(self, training: Training, epoch: int) -> Iterable[Any]:
        return self.like.loader(training, epoch)

    like: LearnedSampling


def test_with_no_other_action_than_1_it_is_a_static_histogram_sampler(
    pool: Features, tmp_path: Path
) -> None:
    training, policy = training_of(pool), make(pool, actions="1")
    start = policy.histogram.weights.clone()
    with seeded(0, "init"):
        model = EmbeddingModel(Standardize(torch.from_numpy(pool.values)), DIMENSION, 4)
        margin = get_method("margin").build_with(CLASSES, 4, {})
        static = Static(spec_of("margin"), model, Criterion(margin.loss, Histogram()))
    object.__setattr__(static, "like", policy)
    for name, objective in (("policy", policy), ("static", static)):
        (tmp_path / name).mkdir()
        fit(objective, training, tmp_path / name)
    assert torch.equal(policy.histogram.weights, start)
    assert policy.history.added == 6 and policy.agent.learned == 5
    for one, other in zip(policy.model.parameters(), static.model.parameters(), strict=True):
        assert torch.equal(one, other)
    moving = make(pool)
    (tmp_path / "moving").mkdir()
    fit(moving, training, tmp_path / "moving")
    assert not torch.equal(moving.histogram.weights, start)
    assert not torch.equal(moving.model.head.weight, policy.model.head.weight)


@pytest.mark.parametrize(
    ("nmi", "changes", "reward"),
    [(False, (0.1, -0.3), 1.0), (True, (0.1, -0.3), -1.0), (False, (0.0, 0.3), 0.0)],
)
def test_the_reward_is_the_sign_of_the_change_on_the_hold_out(
    pool: Features,
    monkeypatch: pytest.MonkeyPatch,
    nmi: bool,
    changes: tuple[float, float],
    reward: float,
) -> None:
    objective, training = make(pool, nmi=nmi), training_of(pool)
    figures = torch.full((7 if nmi else 6,), 0.5)
    after = figures.clone()
    after[0] += changes[0]
    after[-1] += changes[1]
    found = iter((figures, after))
    monkeypatch.setattr(objective, "_figures", lambda training: next(found))
    seen: list[float] = []
    monkeypatch.setattr(objective.agent, "learn", lambda reward, state: seen.append(reward))
    for step in range(4):
        objective.after_step(training, Batch((), torch.empty(0), torch.empty(0), step))
    assert seen == [reward]


class KilledError(Exception):
    """Stands for a process that ends between two steps."""


def test_a_resumed_policy_goes_on_as_if_it_had_never_stopped(
    pool: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    training = training_of(pool)
    straight, broken, resumed = (make(pool, steps=16, refresh=2) for _ in range(3))
    for name in ("straight", "resumed"):
        (tmp_path / name).mkdir()
    fit(straight, training, tmp_path / "straight")
    after_step = broken.after_step

    def die(training: Training, batch: Batch) -> None:
        after_step(training, batch)
        if batch.step == 8:
            raise KilledError

    monkeypatch.setattr(broken, "after_step", die)
    with pytest.raises(KilledError):
        fit(broken, training, tmp_path / "resumed")
    fit(resumed, training, tmp_path / "resumed")
    assert straight.agent.learned == 7
    state = resumed.state_dict()
    for key, value in straight.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_its_settings_are_checked(pool: Features) -> None:
    for own, message in (
        ({"actions": "0.8,1"}, "0.8,1"),
        ({"actions": "0-1"}, "0-1"),
        ({"every": 0}, "every=0"),
        ({"holdout": 1.0}, "holdout=1.0"),
        ({"holdout_size": 3}, "holdout_size=3"),
        ({"base": "proxy_anchor"}, "base=proxy_anchor"),
        ({"base": "multi_similarity"}, "base=multi_similarity"),
    ):
        with pytest.raises(UsageError, match=message):
            make(pool, **own)


def test_recipes_are_the_paper_s(pool: Features) -> None:
    recipes = get_method("pads").recipes
    found = {
        family: (
            recipe.hyperparameters["base.beta"],
            recipe.hyperparameters["every"],
            recipe.hyperparameters.get("holdout", 0.15),
            recipe.network["criterion_learning_rate"],
            recipe.network["samples_per_class"],
        )
        for family, recipe in recipes.items()
    }
    assert found == {
        "cub200": (0.6, 30, 0.15, 1e-3, 2),
        "cars196": (0.6, 30, 0.1, 5e-4, 4),
        "sop": (1.2, 60, 0.1, 1e-3, 2),
    }


def test_it_trains_whole_networks_on_images(image_folder: Path, tmp_path: Path) -> None:
    dataset, backbone = load_dataset(image_folder), load_backbone("tiny")
    pool = extract_features(dataset, backbone, cache=tmp_path / "cache")
    ladder = build_ladder(pool, rungs=2)
    (spec,) = plan(
        ladder, ["pads:every=1"], [0], rungs=[0], train="all", steps=3, batch_size=8,
        embedding_dim=8, image_size=32,
    )  # fmt: skip
    record = train_run(spec, ladder.rungs[0], Resources(pool, dataset, backbone), tmp_path / "run")
    assert np.isfinite(record.training["loss"]) and record.training["steps"] == 3
