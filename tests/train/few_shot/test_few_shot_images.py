"""Few-shot adaptation of networks trained on images: the head alone, and everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from oodml.data import load_dataset
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.runs.spec import RunSpec
from oodml.splits.episodes import Episode, few_shot_episodes
from oodml.splits.split import Split, random_split
from oodml.train.build import Resources, by_objective, objective_of, samples_of
from oodml.train.few_shot import few_shot as fewshot
from oodml.train.few_shot.few_shot import few_shot
from oodml.train.objective import Objective

Run = tuple[RunSpec, Split, Objective, Resources]


@pytest.fixture(scope="module")
def run(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    dataset, backbone = load_dataset(image_folder), load_backbone("tiny")
    pool = extract_features(dataset, backbone, cache=tmp_path_factory.mktemp("cache"))
    split, source = random_split(pool.class_names), pool.source
    spec = RunSpec.on(
        source, split.id, "margin", train="all", embedding_dim=8, batch_size=8, learning_rate=1e-3,
        image_size=32, few_shot="head", few_shot_steps=3, few_shot_rate=1.0,
    )  # fmt: skip
    resources = Resources(pool, dataset, backbone)
    training = samples_of(spec, split.train_classes, resources)
    return spec, split, objective_of(spec, training, 6, resources, 0), resources


def adapted(run: Run, monkeypatch: pytest.MonkeyPatch, **settings: object) -> list[Objective]:
    """The models of two episodes, after a check of their zero-shot figures."""
    spec, split, objective, resources = run
    spec = spec.with_settings(**settings)  # type: ignore[arg-type]
    objective.spec = spec
    seen: list[Objective] = []
    figures = fewshot._figures

    def watched(start: Any, task: Any, model: Objective) -> object:
        seen.append(model)
        return figures(start, task, model)

    monkeypatch.setattr(fewshot, "_figures", watched)
    embed = by_objective(objective, "cpu", samples_of(spec, split.train_classes, resources))
    found = few_shot(spec, split, objective, embed, resources, episodes=episodes(run))
    assert [len(each["episodes"]) for each in found.values()] == [2]
    return seen


def episodes(run: Run) -> tuple[Episode, ...]:
    return few_shot_episodes(run[1], run[3].features, shots=(2,), episodes=2)


def test_the_last_layer_alone_leaves_the_trunk_as_it_was(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its features are computed once, so no image is read and nothing augmented while it learns."""
    trunk = {name: value.clone() for name, value in run[2].model.trunk.state_dict().items()}
    for model in adapted(run, monkeypatch):
        assert not list(model.model.trunk.parameters())
        assert not torch.equal(model.model.head.weight, run[2].model.head.weight)
    for name, value in run[2].model.trunk.state_dict().items():
        assert torch.equal(value, trunk[name])


def test_everything_is_adapted_and_batchnorm_stays_frozen(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: value.clone() for name, value in run[2].model.state_dict().items()}
    one, other = adapted(run, monkeypatch, few_shot="all")
    after = one.model.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any("trunk" in name for name in moved) and "head.weight" in moved
    assert not any("running" in name for name in moved)
    assert not torch.equal(one.model.head.weight, other.model.head.weight)
    again = adapted(run, monkeypatch, few_shot="all")[0].model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in after.items())
    for name, value in run[2].model.state_dict().items():
        assert torch.equal(value, before[name])


def test_mirror_images_are_summed_after_adaptation_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With next to no rate, few-shot is zero-shot, whichever way it is computed."""
    spec, split, objective, resources = run
    for what in ("head", "all"):
        still = spec.with_settings(few_shot=what, flip=True, few_shot_rate=1e-9)
        objective.spec = still
        embed = by_objective(objective, "cpu", samples_of(still, split.train_classes, resources))
        found = few_shot(still, split, objective, embed, resources, episodes=episodes(run)[:1])
        (figures,) = found["2"]["episodes"]
        assert figures["few_shot"] == pytest.approx(figures["zero_shot"], abs=1e-6)
    objective.spec = spec.with_settings(flip=False)
    plain = by_objective(objective, "cpu", samples_of(spec, split.train_classes, resources))
    other = few_shot(spec, split, objective, plain, resources, episodes=episodes(run)[:1])
    assert other["2"]["episodes"][0]["zero_shot"] != figures["zero_shot"]
