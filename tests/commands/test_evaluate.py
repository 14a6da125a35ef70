"""`oodml evaluate`: embeddings made elsewhere get a curve beside trained methods."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands.conftest import done, refused

from oodml.eval.along_ladder import evaluate_split, evaluation_spec, for_ladder
from oodml.eval.retrieval.evaluate import evaluate
from oodml.eval.retrieval.geometry import geometry
from oodml.eval.statistics.difficulty import falls_beyond_difficulty
from oodml.eval.statistics.transfer import transfer
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder


@pytest.fixture
def place(ladder: Ladder, features: Features, tmp_path: Path) -> Path:
    """A ladder, and embeddings of its data that are not its features."""
    ladder.save(tmp_path / "ladder.json")
    values = np.tanh(features.values @ np.ones((features.values.shape[1], 8)) * 0.3)
    replace(features, values=values + features.values[:, :8]).save(tmp_path / "clip.npz")
    return tmp_path


def call(place: Path, file: str = "clip.npz", *more: object) -> tuple[object, ...]:
    ladder = ("--ladder", place / "ladder.json")
    return ("evaluate", place / file, *ladder, "-o", place / "runs", *more)


def test_one_command_gives_a_curve(place: Path, ladder: Ladder) -> None:
    assert "3 runs of 'clip' done, in " in done(*call(place)).output
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
    rows = json.loads(done("table", place / "runs", "--format", "json").output)
    assert [row["mean"] for row in rows] == [
        r.metrics["recall_at_1"]
        for r in sorted(records, key=lambda r: ladder.rung_of(r.spec.data.split) or 0)
    ]


def test_it_stands_beside_trained_runs(place: Path, ladder: Ladder, features: Features) -> None:
    source = ladder.features
    for split in ladder.rungs:
        for seed in (0, 1):
            spec = RunSpec.on(source, split.id, "margin", seed=seed)
            record = RunRecord(spec, {}, {"recall_at_1": 0.1 * seed}, {}, {}, 1.0)
            Store(place / "runs").finish(record)
    done(*call(place))
    text = done("table", place / "runs").output
    assert "clip" in text and "margin" in text
    pairs = json.loads(
        done("table", place / "runs", "--view", "comparisons", "--format", "json").output
    )
    assert [(row["first"], row["second"], row["seeds"]) for row in pairs] == [("clip", "margin", 2)]
    done("plot", place / "runs", "-o", place / "chart.svg")


def test_again_nothing_is_done_and_new_metrics_are_added(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = done(*call(place))
    before = {r.id: r for r in Store(place / "runs").records()}
    done(*call(place, "clip.npz", "--metric", "precision_at_1"))
    after = {r.id: r for r in Store(place / "runs").records()}
    assert before.keys() == after.keys()
    for run, record in after.items():
        assert record.metrics.items() >= before[run].metrics.items()
        assert record.metrics["precision_at_1"] == record.metrics["recall_at_1"]
    monkeypatch.setattr("oodml.eval.along_ladder.evaluate", lambda *a, **k: pytest.fail("again"))
    again = done(*call(place))
    assert "3 of them before" in again.output
    assert first.output.splitlines()[:3] == again.output.splitlines()[:3]


def test_the_kind_of_file_makes_no_difference(place: Path) -> None:
    features = Features.load(place / "clip.npz")
    np.save(place / "other.npy", features.values)
    names = [features.class_names[label] for label in features.labels]
    (place / "other.csv").write_text("\n".join(["label", *names]) + "\n")
    done(*call(place))
    assert "3 of them before" in done(*call(place, "other.npy", "--name", "clip")).output


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
    done(*call(place, "clip.npz", *options))
    records = Store(place / "runs").records()
    assert {r.metrics["queries"] for r in records} == {20}
    assert {r.spec.evaluation.gallery_classes for r in records} == {4}


def test_the_frozen_features_score_as_the_method_frozen(
    place: Path, features: Features, ladder: Ladder
) -> None:
    features.save(place / "same.npz")
    done(*call(place, "same.npz"))
    data = ["--data", place / "same.npz", "--workers", "1"]
    done("run", place / "ladder.json", "-m", "frozen", "-o", place / "runs", *data)
    by_split: dict[str, list[float]] = {}
    for record in Store(place / "runs").records():
        by_split.setdefault(record.spec.data.split, []).append(record.metrics["recall_at_1"])
    assert len(by_split) == 3
    assert all(len(values) == 2 and len(set(values)) == 1 for values in by_split.values())


class TestRefused:
    def write(self, place: Path, change: Callable[[Features], Features]) -> None:
        change(Features.load(place / "clip.npz")).save(place / "clip.npz")

    def test_other_data(self, place: Path) -> None:
        self.write(place, lambda f: replace(f, source=f.source.with_data("birds", "f" * 16)))
        line = refused(1, *call(place))
        assert "'birds'" in line and "f" * 16 in line
        assert not (place / "runs").exists()

    def test_classes_that_a_rung_tests_on(self, place: Path, ladder: Ladder) -> None:
        gone = ladder.rungs[0].test_classes[0]
        self.write(place, lambda f: f.subset([n for n in f.class_names if n != gone]))
        line = refused(1, *call(place))
        assert "rung 0 tests on 1 of" in line and gone in line

    def test_one_class_only(self, place: Path) -> None:
        self.write(place, lambda f: f.subset(f.class_names[:1]))
        assert "classes that the embeddings lack" in refused(1, *call(place))

    def test_fewer_images_than_the_ladder_knows(self, place: Path) -> None:
        self.write(
            place,
            lambda f: replace(f, values=f.values[1:], labels=f.labels[1:], sample_names=()),
        )
        assert "has 7 embeddings and 8 images" in refused(1, *call(place))

    def test_names_and_metrics(self, place: Path) -> None:
        assert "Did you mean" in refused(2, *call(place, "clip.npz", "--metric", "recall_at1"))
        line = refused(2, *call(place, "clip.npz", "--name", "margin"))
        assert "is a method of oodml" in line and "--name" in line
        assert "--name NAME" in refused(2, *call(place, "clip.npz", "--name", " "))
        assert "absent.npy" in refused(1, *call(place, "absent.npy"))
        line = refused(2, *call(place, "clip.npz", "--device", "cuda:99"))
        assert "device 'cuda:99'" in line and "try cpu" in line
        assert not (place / "runs").exists()

    def test_vectors_that_are_all_zero_score_what_chance_gives(self, place: Path) -> None:
        self.write(place, lambda f: replace(f, values=f.values * 0))
        done(*call(place))
        for record in Store(place / "runs").records():
            queries = record.metrics["queries"]
            assert record.metrics["queries_tied"] == queries
            # 7 of the others have the class of each of 8 images.
            assert record.metrics["recall_at_1"] == pytest.approx(7 / (queries - 1))

    def test_another_file_under_a_name_that_is_taken(self, place: Path) -> None:
        done(*call(place))
        self.write(place, lambda f: replace(f, values=f.values * 2 + 1))
        line = refused(1, *call(place))
        assert "other embeddings called 'clip'" in line and "--name" in line
        done(*call(place, "clip.npz", "--name", "clip 2"))

    def test_a_directory_of_another_ladder(self, place: Path, features: Features) -> None:
        done(*call(place))
        build_ladder(features, rungs=2, swap_size=2).save(place / "ladder.json")
        assert "another ladder" in refused(1, *call(place))

    def test_not_finite(self, place: Path) -> None:
        features = Features.load(place / "clip.npz")
        values = features.values.copy()
        values[3, 0] = np.nan
        np.save(place / "bad.npy", values)
        names = [features.class_names[label] for label in features.labels]
        (place / "bad.csv").write_text("\n".join(["label", *names]) + "\n")
        line = refused(1, *call(place, "bad.npy"))
        assert "bad.npy" in line and "NaN" in line and "3" in line


class TestReference:
    """`--reference METHOD`: how much of the fall is difficulty, by the method's matched runs."""

    @pytest.fixture
    def trained(self, place: Path, features: Features) -> Path:
        """Reference runs of margin in the store that `evaluate` writes to."""
        features.save(place / "features.npz")
        done(
            "run", place / "ladder.json", "--data", place / "features.npz", "-m", "margin",
            "--reference", "--seeds", 2, "--steps", 5, "--train-batch-size", 24,
            "--embedding-dim", 4, "--workers", 1, "-o", place / "runs",
        )  # fmt: skip
        return place

    def test_the_ladders_own_features_fall_as_frozen_does(
        self, trained: Path, ladder: Ladder
    ) -> None:
        output = done(*call(trained, "features.npz", "--reference", "margin")).output
        assert "has no matched run" in output and "margin matched" in output
        records = Store(trained / "runs").records()
        rows = falls_beyond_difficulty(records, ladder, "features", "margin")
        (margin,) = transfer(records, ladder)
        assert len(rows) == len(ladder.rungs) == len(margin.rows)
        for row, known in zip(rows, margin.rows, strict=True):
            assert known.frozen is not None and known.difficulty is not None
            assert row.embeddings.value == pytest.approx(known.frozen.value, abs=1e-12)
            assert row.difficulty == known.difficulty and row.matched == known.matched
            assert row.beyond.value == pytest.approx(
                rows[0].embeddings.value - row.embeddings.value - row.difficulty.value
            )
            assert f"{row.difficulty.value:.3f}" in output

    def test_again_no_half_is_measured_twice(self, trained: Path) -> None:
        before = done(*call(trained, "clip.npz", "--reference", "margin")).output
        files = {path: path.stat().st_mtime_ns for path in trained.glob("runs/runs/*/run.json")}
        after = done(*call(trained, "clip.npz", "--reference", "margin")).output
        assert after.partition("\n\n")[2] == before.partition("\n\n")[2] != ""
        assert files == {p: p.stat().st_mtime_ns for p in trained.glob("runs/runs/*/run.json")}

    def test_views_of_plain_runs_leave_the_halves_out(self, trained: Path, ladder: Ladder) -> None:
        done(*call(trained, "clip.npz", "--reference", "margin"))
        rows = json.loads(done("table", trained / "runs", "--format", "json").output)
        assert sum(row["method"] == "clip" for row in rows) == len(ladder.rungs)
        shown = done("table", trained / "runs", "--view", "transfer", "--format", "json").output
        assert {row["method"] for row in json.loads(shown)} == {"margin"}

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--reference", "arcface"), "there are: margin"),
            (("--reference", "margin", "--gallery-classes", 4), "leave out --gallery-classes"),
        ],
    )
    def test_what_gives_no_difficulty_is_one_line_and_nothing_is_evaluated(
        self, arguments: tuple[object, ...], words: str, trained: Path
    ) -> None:
        before = len(Store(trained / "runs").records())
        assert words in refused(2, *call(trained, "clip.npz", *arguments))
        assert len(Store(trained / "runs").records()) == before

    def test_a_ladder_built_by_group(self, trained: Path, ladder: Ladder) -> None:
        settings = replace(ladder.settings, by="group")
        replace(ladder, settings=settings).save(trained / "ladder.json")
        assert "by class" in refused(2, *call(trained, "clip.npz", "--reference", "margin"))
