"""Reference runs: the plain run, on both halves of the test classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import UsageError
from oodml.eval.retrieval.evaluate import evaluate
from oodml.features.features import Features
from oodml.runs.spec import RunSpec
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.splits.reference import halves_of
from oodml.splits.split import Split
from oodml.train import run as run_module
from oodml.train.build import Resources
from oodml.train.members import members_of
from oodml.train.plan import plan
from oodml.train.run import EMBEDDINGS, HALVES, train_run

QUICK: dict[str, Any] = {"steps": 20, "batch_size": 24, "embedding_dim": 8}
TRICKS: dict[str, dict[str, Any]] = {
    "head": {},
    "selected": {"selection": "best_validation", "epochs": 2, "steps": 0},
    "ensemble": {"ensemble": 2},
    "folds": {"folds": 2},
    "mixed": {"mix": 0.3},
    "re-ranked": {"rerank": True},
}


def references(ladder: Ladder, method: str = "margin", **settings: Any) -> dict[str, RunSpec]:
    specs = plan(ladder, [method], [0], rungs=[1], reference=True, **{**QUICK, **settings})
    return {spec.data.trained_on: spec for spec in specs if spec.is_reference}


@pytest.mark.parametrize("case", TRICKS)
def test_a_reference_is_the_mean_of_the_plain_run_on_both_halves(case: str, tmp_path: Path) -> None:
    pool = make_features(48, 13, 8)
    ladder = build_ladder(pool, rungs=2)
    split = ladder.rungs[1]
    resources = Resources(pool)
    for side in ("shifted", "matched"):
        spec = references(ladder, **TRICKS[case])[side]
        record = train_run(spec, split, resources, tmp_path / side, keep_embeddings=True)
        alone = [
            train_run(spec.plain.with_settings(split=half.id), half, resources, tmp_path / half.id)
            for half in halves_of(split, 0, side)
        ]
        for name in record.metrics:
            both = [each.metrics[name] for each in alone]
            assert record.metrics[name] == pytest.approx(np.mean(both), abs=1e-12)
        assert record.shift["fid"] == split.fid
        assert json.loads(json.dumps(record.to_json())) == record.to_json()
        kept = [Features.load(tmp_path / side / half / EMBEDDINGS) for half in HALVES]
        assert [each.class_names for each in kept] == [
            half.test_classes for half in halves_of(split, 0, side)
        ]
        if not spec.evaluation.rerank:
            found = [evaluate(each)["recall_at_1"] for each in kept]
            assert record.metrics["recall_at_1"] == pytest.approx(np.mean(found), abs=1e-12)


def test_matched_equals_shifted_to_the_bit_when_both_have_the_same_classes(
    features: Features, ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = ladder.rungs[1]
    same = halves_of(split, 0, "matched")

    def given(*_: Any, **__: Any) -> tuple[Split, Split]:
        return same

    monkeypatch.setattr(run_module, "halves_of", given)
    specs = references(ladder)
    one, other = (
        train_run(specs[side], split, Resources(features), tmp_path / side)
        for side in ("shifted", "matched")
    )
    assert one.id != other.id
    assert (one.metrics, one.training, one.geometry) == (
        other.metrics, other.training, other.geometry
    )  # fmt: skip


def test_frozen_features_are_measured_on_the_same_halves_without_training(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    split = ladder.rungs[1]
    spec = references(ladder)["nothing"]
    assert spec.method.name == "frozen"
    record = train_run(spec, split, Resources(features), tmp_path)
    found = [
        evaluate(features.subset(half.test_classes))["recall_at_1"]
        for half in halves_of(split, 0, "matched")
    ]
    assert record.metrics["recall_at_1"] == pytest.approx(np.mean(found), abs=1e-12)


def test_a_reference_trains_on_no_class_that_it_measures(ladder: Ladder) -> None:
    for side, spec in references(ladder).items():
        for half in halves_of(ladder.rungs[1], 0, side):
            (member,) = members_of(spec, half)
            assert not set(member.fit_classes) & set(half.test_classes)


def test_few_shots_adapt_to_episodes_of_the_halves(tmp_path: Path) -> None:
    pool = make_features(24, 13, 8)
    ladder = build_ladder(pool, rungs=2)
    spec = references(ladder, few_shot="head", few_shot_steps=2)["matched"]
    record = train_run(spec, ladder.rungs[1], Resources(pool), tmp_path)
    assert record.few_shot and all(len(each["episodes"]) == 20 for each in record.few_shot.values())


def test_equal_galleries_have_half_as_many_classes(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    least = min(len(rung.test_classes) for rung in ladder.rungs)
    spec = references(ladder, gallery_classes=least, gallery_images=2 * least)["nothing"]
    record = train_run(spec, ladder.rungs[1], Resources(features), tmp_path)
    size = len(features) // len(features.class_names)
    assert record.metrics["queries"] == size * (least // 2)


def test_the_plan_adds_both_sides_of_every_cell_and_the_network_as_it_is(ladder: Ladder) -> None:
    specs = plan(ladder, ["margin", "pca_whitening"], [0, 1], reference=True, reference_null=2)
    assert len({spec.id for spec in specs}) == len(specs)
    sides: dict[tuple[str, int], int] = {}
    for spec in specs:
        sides[spec.data.trained_on, spec.data.null_draw] = (
            sides.get((spec.data.trained_on, spec.data.null_draw), 0) + 1
        )
    rungs = len(ladder.rungs)
    assert sides == {
        # pca_whitening has a single seed, but its halves follow from the seed.
        ("train", 0): rungs * 3,
        ("shifted", 0): rungs * 4,
        ("matched", 0): rungs * 4,
        ("nothing", 0): rungs * 2,
        **{(side, draw): rungs * 2 for side in ("shifted", "matched") for draw in (1, 2)},
    }
    assert {spec.seed for spec in specs if spec.data.null_draw == 2} == {1}
    plain = plan(ladder, ["margin", "pca_whitening"], [0, 1])
    assert [spec for spec in specs if not spec.is_reference] == plain
    assert {spec.plain.id for spec in specs if spec.method.name != "frozen"} >= {
        spec.id for spec in plain
    }


def test_what_does_not_go_with_a_reference_is_refused(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="reference_null=2"):
        plan(ladder, ["margin"], [0], reference_null=2)
    few = replace(ladder, class_sizes=dict.fromkeys(ladder.class_sizes, 1))
    with pytest.raises(UsageError, match="none"):
        plan(few, ["margin"], [0], reference=True)
    spec = references(ladder)["matched"].with_settings(measured_on="validation")
    with pytest.raises(UsageError, match="validation"):
        train_run(spec, ladder.rungs[1], Resources(features), tmp_path)
