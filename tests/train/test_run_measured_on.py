"""Runs measured on validation classes: trained without them, and blind to every test class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodml.data import load_dataset
from oodml.errors import UsageError
from oodml.eval.retrieval.evaluate import evaluate
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.episodes import Fold, validation_fold
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split
from oodml.train.build import Resources
from oodml.train.members import members_of
from oodml.train.plan import plan
from oodml.train.run import EMBEDDINGS, train_run

QUICK: dict[str, Any] = {"steps": 20, "batch_size": 24, "embedding_dim": 8}


class Guarded:
    """Feature values of which only some rows may be read; anything else raises."""

    def __init__(self, values: np.ndarray, forbidden: np.ndarray) -> None:
        self.values, self.forbidden = values, set(forbidden.tolist())
        self.shape, self.ndim = values.shape, values.ndim

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        assert not self.forbidden & set(np.asarray(rows).tolist()), "a test row was read"
        return self.values[rows]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise AssertionError("all rows were read")

    def __iter__(self) -> Iterator[np.ndarray]:
        raise AssertionError("all rows were read")


def guarded(features: Features, split: Split) -> Features:
    """The same features, whose test rows cannot be read."""
    copy = replace(features)
    forbidden = features.of_classes(split.test_classes)
    object.__setattr__(copy, "values", Guarded(features.values, forbidden))
    return copy


def validated(ladder: Ladder, method: str = "margin", **settings: Any) -> RunSpec:
    (spec,) = plan(ladder, [method], [0], rungs=[0], **{**QUICK, **settings})
    return spec.with_settings(measured_on="validation")


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("margin", {}),
        ("margin", {"selection": "best_validation"}),
        ("margin", {"ensemble": 2, "steps": 5}),
        ("pca_whitening", {}),
        ("frozen", {}),
    ],
)
def test_no_test_row_is_read_and_the_result_is_that_of_the_whole_features(
    method: str, settings: dict[str, Any], features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    split, spec = ladder.rungs[0], validated(ladder, method, **settings)
    blind = train_run(spec, split, Resources(guarded(features, split)), tmp_path / "blind")
    seeing = train_run(spec, split, Resources(features), tmp_path / "seeing")
    assert (blind.metrics, blind.training) == (seeing.metrics, seeing.training)
    assert blind.geometry == seeing.geometry and blind.geometry.keys() == {"train", "validation"}
    assert blind.shift == {} and RunRecord.from_json(blind.to_json()) == blind


def test_the_guard_sees_a_run_that_reads_test_rows(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    split, spec = ladder.rungs[0], validated(ladder).with_settings(measured_on="test")
    with pytest.raises(AssertionError, match="test row"):
        train_run(spec, split, Resources(guarded(features, split)), tmp_path)


def test_the_metrics_are_those_of_the_validation_classes_which_no_model_is_fitted_on(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    split, spec = ladder.rungs[0], validated(ladder)
    fold = validation_fold(split)
    record = train_run(spec, split, Resources(features), tmp_path, keep_embeddings=True)
    kept = Features.load(tmp_path / EMBEDDINGS)
    assert kept.class_names == fold.validation_classes
    assert evaluate(kept) == record.metrics
    (member,) = members_of(spec, split)
    assert member.fit_classes == fold.fit_classes and member.validation_classes == ()
    assert spec.label == "margin +validation classes"


def test_the_rungs_own_validation_classes_are_taken(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    split, spec = ladder.rungs[0], validated(ladder)
    names = split.train_classes
    fold = Fold(names[3:], names[:3])
    record = train_run(spec, split, Resources(features), tmp_path, fold=fold)
    assert record.metrics["queries"] == len(features.of_classes(names[:3]))


def test_whole_networks_open_no_test_image(image_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    for picture in image_folder.rglob("*.png"):
        copy = folder / picture.parent.name / picture.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(picture.read_bytes())
    dataset, backbone = load_dataset(folder), load_backbone("tiny")
    pool = extract_features(dataset, backbone, cache=tmp_path / "cache")
    ladder = build_ladder(pool, rungs=2)
    split = ladder.rungs[0]
    for row in dataset.of_classes(split.test_classes):
        Path(dataset.paths[row]).unlink()
    spec = validated(ladder, train="all", steps=2, batch_size=12, image_size=32)
    record = train_run(spec, split, Resources(guarded(pool, split), dataset, backbone), tmp_path)
    assert record.metrics["queries"] == 6 * len(validation_fold(split).validation_classes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 3}, "3 folds"),
        ({"few_shot": "head"}, "few shots"),
        ({"gallery_classes": 2}, "equal galleries"),
    ],
)
def test_what_only_test_classes_have_is_refused(
    settings: dict[str, Any], message: str, features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train_run(validated(ladder, **settings), ladder.rungs[0], Resources(features), tmp_path)
    with pytest.raises(UsageError, match="'tests'"):
        wrong = validated(ladder).with_settings(measured_on="tests")
        train_run(wrong, ladder.rungs[0], Resources(features), tmp_path)
