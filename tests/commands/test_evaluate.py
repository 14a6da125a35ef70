"""`oodml evaluate`: embeddings made elsewhere get a curve beside trained methods."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from commands.conftest import oodml

from oodml.errors import DataError
from oodml.eval.along_ladder import evaluate_split, evaluation_spec, for_ladder
from oodml.eval.retrieval.evaluate import evaluate
from oodml.eval.retrieval.geometry import geometry
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.build.construction import build_ladder
from oodml.splits.ladder import Ladder


@pytest.fixture
def place(ladder: Ladder, features: Features, tmp_path: Path) -> Path:
    """A ladder, and embeddings of its data that are not its features."""
    ladder.save(tmp_path / "ladder.json")
    values = np.tanh(features.values @ np.ones((features.values.shape[1], 8)) * 0.3)
    replace(features, values=values + features.values[:, :8]).save(tmp_path / "clip.npz")
    return tmp_path


def call(place: Path, file: str = "clip.npz", *more: object) -> Result:
    return oodml(
        "evaluate", place / file, "--ladder", place / "ladder.json", "-o", place / "runs", *more
    )


def test_one_command_gives_a_curve(place: Path, ladder: Ladder) -> None:
    result = call(place)
    assert result.exit_code == 0, result.output
    assert "3 runs of 'clip' done, in " in result.output
    records = Store(place / "runs").records()
    assert len(records) == len(ladder.rungs)
    features = Features.load(place / "clip.npz")
    for record in records:
        rung = ladder.rung_of(record.spec.data.split)
        assert rung is not None
        split = ladder.rungs[rung]
        assert record.metrics == evaluate(features.subset(split.test_classes))
        assert record.geometry["test"] == geometry(features.subset(split.test_classes))
        assert record.geometry["train"] == geometry(features.subset(split.train_classes))
        assert (record.spec.model.train, record.spec.model.backbone) == ("none", "embeddings")
        assert record.spec.model.embedding_dim == 8
        assert record.shift == (split.shift.to_json() if split.shift else None)
    rows = json.loads(oodml("table", place / "runs", "--format", "json").output)
    assert [row["mean"] for row in rows] == [
        r.metrics["recall_at_1"]
        for r in sorted(records, key=lambda r: ladder.rung_of(r.spec.data.split) or 0)
    ]


def test_it_stands_beside_trained_runs(place: Path, ladder: Ladder, features: Features) -> None:
    source = ladder.features
    for split in ladder.rungs:
        for seed in (0, 1):
            spec = RunSpec.on(source, split.id, "margin", seed=seed,
            )  # fmt: skip
            record = RunRecord(spec, {}, {"recall_at_1": 0.1 * seed}, {}, {}, 1.0)
            Store(place / "runs").finish(record)
    assert call(place).exit_code == 0
    text = oodml("table", place / "runs").output
    assert "clip" in text and "margin" in text
    pairs = json.loads(
        oodml("table", place / "runs", "--view", "comparisons", "--format", "json").output
    )
    assert [(row["first"], row["second"], row["seeds"]) for row in pairs] == [("clip", "margin", 2)]
    assert oodml("plot", place / "runs", "-o", place / "chart.svg").exit_code == 0


def test_again_nothing_is_done_and_new_metrics_are_added(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = call(place)
    before = {r.id: r for r in Store(place / "runs").records()}
    assert call(place, "clip.npz", "--metric", "precision_at_1").exit_code == 0
    after = {r.id: r for r in Store(place / "runs").records()}
    assert before.keys() == after.keys()
    for run, record in after.items():
        assert record.metrics.items() >= before[run].metrics.items()
        assert record.metrics["precision_at_1"] == record.metrics["recall_at_1"]
    monkeypatch.setattr("oodml.eval.along_ladder.evaluate", lambda *a, **k: pytest.fail("again"))
    again = call(place)
    assert "3 of them before" in again.output
    assert first.output.splitlines()[:3] == again.output.splitlines()[:3]


def test_the_kind_of_file_makes_no_difference(place: Path) -> None:
    features = Features.load(place / "clip.npz")
    np.save(place / "other.npy", features.values)
    names = [features.class_names[label] for label in features.labels]
    (place / "other.csv").write_text("\n".join(["label", *names]) + "\n")
    assert call(place).exit_code == 0
    result = call(place, "other.npy", "--name", "clip")
    assert "3 of them before" in result.output


def test_class_names_are_matched_by_their_letters(place: Path, ladder: Ladder) -> None:
    features = Features.load(place / "clip.npz")
    spelt = tuple(name.upper().replace(" ", "_") for name in features.class_names)
    found = for_ladder(replace(features, class_names=spelt), ladder)
    assert found.class_names == features.class_names


def test_training_classes_need_not_be_there(ladder: Ladder, features: Features) -> None:
    split = ladder.rungs[0]
    part = features.subset(split.test_classes)
    spec = evaluation_spec(part, ladder, split, "part")
    record = evaluate_split(spec, split, part)
    assert "train" not in record.geometry and record.metrics["recall_at_1"] > 0


def test_a_gallery_of_fixed_size(place: Path, ladder: Ladder) -> None:
    options = ["--gallery-classes", "4", "--gallery-images", "20"]
    assert call(place, "clip.npz", *options).exit_code == 0
    records = Store(place / "runs").records()
    assert {r.metrics["queries"] for r in records} == {20}
    assert {r.spec.evaluation.gallery_classes for r in records} == {4}


def test_the_frozen_features_score_as_the_method_frozen(
    place: Path, features: Features, ladder: Ladder
) -> None:
    features.save(place / "same.npz")
    assert call(place, "same.npz").exit_code == 0
    data = ["--data", place / "same.npz", "--workers", "1"]
    run = oodml("run", place / "ladder.json", "-m", "frozen", "-o", place / "runs", *data)
    assert run.exit_code == 0, run.output
    by_split: dict[str, list[float]] = {}
    for record in Store(place / "runs").records():
        by_split.setdefault(record.spec.data.split, []).append(record.metrics["recall_at_1"])
    assert len(by_split) == 3
    assert all(len(values) == 2 and len(set(values)) == 1 for values in by_split.values())


def one_line(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and all(word in last for word in words), last


class TestRefused:
    def write(self, place: Path, change: Callable[[Features], Features]) -> None:
        change(Features.load(place / "clip.npz")).save(place / "clip.npz")

    def test_other_data(self, place: Path) -> None:
        self.write(place, lambda f: replace(f, source=f.source.with_data("birds", "f" * 16)))
        one_line(call(place), 1, "'birds'", "f" * 16)
        assert not (place / "runs").exists()

    def test_classes_that_a_rung_tests_on(self, place: Path, ladder: Ladder) -> None:
        gone = ladder.rungs[0].test_classes[0]
        self.write(place, lambda f: f.subset([n for n in f.class_names if n != gone]))
        one_line(call(place), 1, "rung 0 tests on 1 of", gone)

    def test_one_class_only(self, place: Path) -> None:
        self.write(place, lambda f: f.subset(f.class_names[:1]))
        one_line(call(place), 1, "classes that the embeddings lack")

    def test_fewer_images_than_the_ladder_knows(self, place: Path) -> None:
        self.write(
            place,
            lambda f: replace(f, values=f.values[1:], labels=f.labels[1:], sample_names=()),
        )
        one_line(call(place), 1, "has 7 embeddings and 8 images")

    def test_names_and_metrics(self, place: Path) -> None:
        one_line(call(place, "clip.npz", "--metric", "recall_at1"), 2, "Did you mean")
        one_line(call(place, "clip.npz", "--name", "margin"), 2, "is a method of oodml", "--name")
        one_line(call(place, "clip.npz", "--name", " "), 2, "--name NAME")
        one_line(call(place, "absent.npy"), 1, "absent.npy")
        one_line(call(place, "clip.npz", "--device", "cuda:99"), 2, "device 'cuda:99'", "try cpu")
        assert not (place / "runs").exists()

    def test_vectors_that_are_all_zero_score_what_chance_gives(self, place: Path) -> None:
        self.write(place, lambda f: replace(f, values=f.values * 0))
        assert call(place).exit_code == 0
        for record in Store(place / "runs").records():
            queries = record.metrics["queries"]
            assert record.metrics["queries_tied"] == queries
            # 7 of the others have the class of each of 8 images.
            assert record.metrics["recall_at_1"] == pytest.approx(7 / (queries - 1))

    def test_another_file_under_a_name_that_is_taken(self, place: Path) -> None:
        assert call(place).exit_code == 0
        self.write(place, lambda f: replace(f, values=f.values * 2 + 1))
        one_line(call(place), 1, "other embeddings called 'clip'", "--name")
        assert call(place, "clip.npz", "--name", "clip 2").exit_code == 0

    def test_a_directory_of_another_ladder(self, place: Path, features: Features) -> None:
        assert call(place).exit_code == 0
        build_ladder(features, rungs=2, swap_size=2).save(place / "ladder.json")
        one_line(call(place), 1, "another ladder")

    def test_not_finite(self, place: Path) -> None:
        features = Features.load(place / "clip.npz")
        values = features.values.copy()
        values[3, 0] = np.nan
        with pytest.raises(DataError, match="1 of 192 feature rows"):
            replace(features, values=values)
        np.save(place / "bad.npy", values)
        names = [features.class_names[label] for label in features.labels]
        (place / "bad.csv").write_text("\n".join(["label", *names]) + "\n")
        one_line(call(place, "bad.npy"), 1, "bad.npy", "NaN", "3")
