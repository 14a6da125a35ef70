"""Few-shot adaptation: what it may read, what it moves, and that it helps where it must."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from oodml.errors import DataError, UsageError
from oodml.eval.retrieval.evaluate import evaluate
from oodml.features.features import Features, FeatureSource
from oodml.runs.spec import RunSpec
from oodml.splits.episodes import Episode, few_shot_episodes
from oodml.splits.split import Split, random_split
from oodml.train.build import (
    Embed,
    Resources,
    as_they_are,
    by_module,
    by_objective,
    objective_of,
    samples_of,
)
from oodml.train.few_shot import few_shot as fewshot
from oodml.train.few_shot.adapt import adaptation_rate, together
from oodml.train.few_shot.few_shot import few_shot
from oodml.train.objective import Objective
from oodml.train.registry import get_method

QUICK = {"embedding_dim": 8, "batch_size": 24, "few_shot": "head", "few_shot_steps": 4}
Started = tuple[RunSpec, Split, Objective | None, Embed, Resources]
Watched = list[tuple[Objective, Objective]]


def started(features: Features, method: str = "margin", **settings: Any) -> Started:
    """What a run hands over: an untrained objective stands for a trained one."""
    source = features.source
    spec = RunSpec.on(source, "", method, **{"few_shot_rate": 0.0, **QUICK, **settings},
    )  # fmt: skip
    split = random_split(features.class_names)
    spec = spec.with_settings(split=split.id)
    resources = Resources(features)
    entry = get_method(method)
    if entry.training == "none":
        return spec.with_settings(train="none"), split, None, as_they_are, resources
    samples = samples_of(spec, split.train_classes, resources)
    if entry.training == "fit":
        fitted = entry.build_with(0, spec.model.embedding_dim, {})
        module = fitted(samples.values.numpy(), samples.labels.numpy())
        return spec, split, None, by_module(module), resources
    objective = objective_of(spec, samples, len(split.train_classes), resources, 0)
    return spec, split, objective, by_objective(objective, "cpu", samples), resources


def episodes_of(run: Started, shots: int = 2, number: int = 2) -> tuple[Episode, ...]:
    return few_shot_episodes(run[1], run[4].features, shots=(shots,), episodes=number)


@pytest.fixture
def adapted(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Fills with (model as it was, model adapted), an episode each, as metrics are taken."""
    seen: Watched = []
    figures, model = fewshot._figures, fewshot.StartingPoint.model

    def watched(start: Any, task: Any, after: Objective) -> Any:
        seen.append((model(start, task), after))
        return figures(start, task, after)

    monkeypatch.setattr(fewshot, "_figures", watched)
    return seen


def heads(seen: Watched) -> list[torch.Tensor]:
    return [after.model.head.weight.detach().clone() for _, after in seen]


@pytest.mark.parametrize("method", ["frozen", "pca_whitening", "margin", "arcface"])
@pytest.mark.parametrize("criterion", ["margin", "circle"])
def test_every_kind_of_method_adapts_from_its_own_embedding(
    method: str, criterion: str, features: Features, adapted: Watched
) -> None:
    """Many heads at once (margin) and one by one (circle, which knows no other way)."""
    run = started(features, method, few_shot_criterion=criterion)
    test = features.subset(run[1].test_classes)
    (episode,) = episodes_of(run, number=1)
    found = few_shot(*run, episodes=[episode])["2"]
    assert found["left_out"] == 0
    (figures,) = found["episodes"]
    embedded = replace(test, values=run[3](samples_of(run[0], run[1].test_classes, run[4])))
    rows = np.searchsorted(features.of_classes(run[1].test_classes), episode.query)
    query = replace(embedded, values=embedded.values[rows], labels=embedded.labels[rows])
    assert figures["zero_shot"] == evaluate(query)
    assert figures["few_shot"].keys() == figures["zero_shot"].keys()
    ((before, after),) = adapted
    inputs = torch.from_numpy(embedded.values)
    if run[2] is not None:
        inputs = run[2].model.trunk(torch.from_numpy(test.values))
    with torch.no_grad():
        unit = functional.normalize(torch.from_numpy(embedded.values), dim=1)
        torch.testing.assert_close(before.embed(inputs), unit, atol=1e-5, rtol=0)
        assert not torch.allclose(after.embed(inputs), unit, atol=1e-4)


def noisy_features(dimension: int = 24) -> Features:
    """Classes differ in 4 directions only; all others hold noise of a larger size."""
    random = np.random.default_rng(0)
    means = np.zeros((24, dimension))
    means[:, :4] = random.standard_normal((24, 4))
    scale = np.where(np.arange(dimension) < 4, 0.2, 1.0)
    values = means[:, None] + scale * random.standard_normal((24, 14, dimension))
    names = tuple(f"class {i:03d}" for i in range(24))
    labels = np.repeat(np.arange(24), 14)
    source = FeatureSource("noisy", "0" * 16, "none", "0" * 64, "none", "fp32")
    return Features(values.reshape(-1, dimension).astype(np.float32), labels, names, source)


@pytest.mark.parametrize(
    ("method", "embedding_dim"), [("frozen", 64), ("frozen", 16), ("margin", 8)]
)
def test_adaptation_helps_where_it_must(method: str, embedding_dim: int) -> None:
    run = started(
        noisy_features(), method, embedding_dim=embedding_dim, few_shot_steps=60, few_shot_rate=10.0
    )
    for figures in few_shot(*run, episodes=episodes_of(run, shots=10))["10"]["episodes"]:
        assert figures["few_shot"]["recall_at_1"] > figures["zero_shot"]["recall_at_1"] + 0.1


def test_nothing_of_a_query_reaches_the_adaptation(features: Features, adapted: Watched) -> None:
    for method, criterion in (("margin", "margin"), ("frozen", "margin"), ("margin", "circle")):
        run = started(features, method, few_shot_criterion=criterion)
        episode = episodes_of(run, number=1)
        assert not set(episode[0].support) & set(episode[0].query)
        one = few_shot(*run, episodes=episode)
        values = features.values.copy()
        hidden = (len(episode[0].query), values.shape[1])
        values[episode[0].query] = np.random.default_rng(0).standard_normal(hidden)
        other = few_shot(*run[:4], Resources(replace(features, values=values)), episodes=episode)
        first, second = heads(adapted)[-2:]
        assert torch.equal(first, second)
        assert one != other


def test_the_trained_model_and_its_trunk_stay_as_they_were(
    features: Features, adapted: Watched
) -> None:
    run = started(features)
    objective = run[2]
    assert objective is not None
    # What training leaves behind; a tensor of a graph cannot be copied.
    objective.observed = objective.encode(torch.randn(4, features.values.shape[1])).embedding
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    few_shot(*run, episodes=episodes_of(run))
    for name, value in objective.state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(heads(adapted)[0], objective.model.head.weight)


@pytest.mark.parametrize("criterion", ["margin", "margin:nu=0.1"])
def test_the_criterions_own_parameters_move(
    criterion: str, features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nu takes the loop over single episodes."""
    boundaries: list[torch.Tensor] = []

    def kept(self: nn.Module, *given: Any) -> Any:
        boundaries.append(self.beta.detach().clone())
        return forward(self, *given)

    at_once = fewshot.episodes_loss(criterion, 1, 4, 4)
    owner = type(at_once or get_method("margin").build(4, 4).loss)
    forward = owner.forward
    monkeypatch.setattr(owner, "forward", kept)
    run = started(features, few_shot_criterion=criterion)
    few_shot(*run, episodes=episodes_of(run, number=1))
    assert len(boundaries) == 4 and torch.unique(boundaries[0]).tolist() == [pytest.approx(1.2)]
    assert not torch.equal(boundaries[0], boundaries[-1])


@pytest.mark.parametrize("criterion", ["margin", "margin:nu=0.1"])
def test_the_same_seed_gives_the_same_bits_in_any_order_of_episodes(
    criterion: str, features: Features, adapted: Watched
) -> None:
    run = started(features, few_shot_criterion=criterion)
    episodes = episodes_of(run, shots=5, number=3)
    torch.manual_seed(1)
    one = few_shot(*run, episodes=episodes)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert few_shot(*run, episodes=episodes[::-1]) == one
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second = heads(adapted)[:3], heads(adapted)[3:]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    few_shot(run[0].with_settings(seed=1), *run[1:], episodes=episodes)
    assert not torch.allclose(heads(adapted)[6], first[0], atol=1e-6)


@pytest.mark.parametrize("method", ["margin", "frozen"])
def test_an_episode_is_adapted_alike_alone_and_among_others(
    method: str, features: Features, adapted: Watched
) -> None:
    run = started(features, method)
    episodes = episodes_of(run, number=3)
    few_shot(*run, episodes=episodes)
    few_shot(*run, episodes=episodes[1:2])
    torch.testing.assert_close(heads(adapted)[3], heads(adapted)[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["margin", "frozen"])
@pytest.mark.parametrize("criterion", ["contrastive", "multi_similarity"])
def test_heads_adapted_at_once_equal_heads_adapted_one_by_one(
    method: str, criterion: str, features: Features, adapted: Watched,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = started(features, method, few_shot_criterion=criterion)
    episodes = episodes_of(run, shots=5)
    few_shot(*run, episodes=episodes)
    monkeypatch.setattr(fewshot, "episodes_loss", lambda *_: None)
    few_shot(*run, episodes=episodes)
    changes = [
        (after.model.head.weight - before.model.head.weight).detach() for before, after in adapted
    ]
    assert min(float(change.abs().max()) for change in changes) > 1e-4
    for at_once, alone in zip(changes[:2], changes[2:], strict=True):
        torch.testing.assert_close(at_once, alone, atol=2e-6, rtol=0)


def test_small_classes_and_impossible_shots_are_counted_and_logged(
    features: Features, caplog: pytest.LogCaptureFixture
) -> None:
    """8 samples a class: 5 shots leave 3 queries, 10 are too many."""
    run = started(features, few_shot_steps=1)
    small = run[1].test_classes[0]
    rows = np.delete(np.arange(len(features)), features.of_classes([small])[6:])
    cut = replace(features, values=features.values[rows], labels=features.labels[rows])
    with caplog.at_level(logging.WARNING, "oodml"):
        found = few_shot(*run[:4], Resources(cut))
    assert {shots: each["left_out"] for shots, each in found.items()} == {"2": 0, "5": 1}
    assert [len(each["episodes"]) for each in found.values()] == [10, 10]
    assert "10 shots are left out" in caplog.text


def test_too_small_a_support_makes_smaller_batches_with_a_warning_or_ends_in_one_line(
    features: Features, caplog: pytest.LogCaptureFixture
) -> None:
    run = started(features, few_shot_steps=1, batch_size=112)
    with caplog.at_level(logging.WARNING, "oodml"):
        few_shot(*run, episodes=episodes_of(run))
    assert "batches of 24 in place of 112" in caplog.text
    with pytest.raises(DataError, match="pairs"):
        few_shot(*run, episodes=episodes_of(run, shots=1))
    (episode,) = episodes_of(run, number=1)
    foreign = replace(episode, query=features.of_classes(run[1].train_classes))
    with pytest.raises(DataError, match="test classes"):
        few_shot(*run, episodes=[foreign])


def test_runs_that_cannot_be_adapted_end_in_one_line(features: Features) -> None:
    run = started(features)
    episodes = episodes_of(run, number=1)
    for changed, words in (({"few_shot": ""}, "head"), ({"mix": 0.5}, "mix")):
        with pytest.raises(UsageError, match=words):
            few_shot(run[0].with_settings(**changed), *run[1:], episodes=episodes)
    for criterion in ("margin", "circle"):
        wild = run[0].with_settings(few_shot_rate=1e42, few_shot_criterion=criterion)
        with pytest.raises(DataError, match="not finite"):
            few_shot(wild, *run[1:], episodes=episodes)


def test_heads_move_more_slowly_than_networks(features: Features) -> None:
    spec = started(features)[0]
    assert adaptation_rate(spec) == pytest.approx(1e-4)
    whole = spec.with_settings(train="all", learning_rate=1e-5)
    assert adaptation_rate(whole) == pytest.approx(1e-4)
    assert adaptation_rate(spec.with_settings(few_shot_rate=3.0)) == pytest.approx(3e-3)


@pytest.mark.parametrize("criterion", ["margin", "circle"])
def test_episodes_draw_for_themselves(criterion: str, features: Features, adapted: Watched) -> None:
    """The same support under another number is seen in other batches."""
    run = started(features, few_shot_criterion=criterion)
    (episode,) = episodes_of(run, shots=5, number=1)
    few_shot(*run, episodes=[episode, replace(episode, number=1)])
    first, second = heads(adapted)
    assert not torch.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("hook", ["embed", "output", "unit"])
def test_methods_that_embed_in_their_own_way_are_adapted_one_by_one(
    hook: str, features: Features
) -> None:
    objective = started(features)[2]
    assert objective is not None and together([objective]) is not None
    own = type("Own", (Objective,), {hook: lambda self, values: values})
    objective.__class__ = own
    assert together([objective]) is None
