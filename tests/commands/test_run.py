"""`oodml run` and `oodml train`: from a ladder to records, tables and charts."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from commands.conftest import done, oodml, refused
from conftest import make_features, save_drawing

from oodml.data import load_dataset
from oodml.features.extraction import extract_features
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.equal_size import equal_gallery
from oodml.splits.ladder import Ladder
from oodml.train.registry import all_methods

NEEDING = sorted(name for name, entry in all_methods().items() if "cached_views" in entry.settings)


def test_the_path_from_a_ladder_to_the_chart(
    built: tuple[Path, Path], tmp_path: Path, image_folder: Path
) -> None:
    ladder, cache = built
    runs = tmp_path / "runs"
    grid = [
        "run", ladder, "--data", image_folder, "--cache", cache, "-o", runs, "-m", "frozen",
        "-m", "margin:beta=0.9", "--seeds", 2, "--steps", 5, "--train-batch-size", 12,
    ]  # fmt: skip
    assert "6 to go" in done(*grid, "--dry-run").output
    assert not runs.exists()
    assert "6 runs done" in done(*grid, "--workers", 1).output
    assert "6 done, 0 failed before, 0 to go" in done(*grid, "--dry-run").output
    assert json.loads(done("status", runs, "--format", "json").output)["done"] == 6

    values = [
        record.metrics["recall_at_1"]
        for record in Store(runs).records()
        if record.label == "margin(beta=0.9)"
    ]
    rows = json.loads(done("table", runs, "--format", "json").output)
    means = [row["mean"] for row in rows if row["method"] == "margin(beta=0.9)"]
    assert sum(means) / 2 == pytest.approx(sum(values) / 4)
    done("plot", runs, "--metric", "r_precision")
    assert (runs / "r_precision.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (runs / "r_precision.svg").read_bytes()


@pytest.mark.parametrize("train", ["head", "all"])
def test_one_run_by_hand(train: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    ladder, cache = built
    result = done(
        "train", ladder, "--rung", 1, "-m", "margin", "--train", train, "--steps", 2,
        "--train-batch-size", 8, "--cache", cache, "-o", tmp_path / "one",
    )  # fmt: skip
    (record,) = Store(tmp_path / "one").records()
    assert (record.spec.model.train, record.training["steps"]) == (train, 2)
    assert json.dumps(record.metrics, sort_keys=True) in result.output


def test_every_rung_may_have_an_equal_gallery(tmp_path: Path) -> None:
    features = make_features()
    features.save(tmp_path / "f.npz")
    ladder = build_ladder(features, rungs=2, swap_size=2, null=0)
    ladder.save(tmp_path / "l.json")
    done(
        "run", tmp_path / "l.json", "--data", tmp_path / "f.npz", "-m", "frozen",
        "--equal-gallery", "--seeds", 1, "--workers", 1, "-o", tmp_path / "runs",
    )  # fmt: skip
    classes, images = equal_gallery(ladder, [0])
    for record in Store(tmp_path / "runs").records():
        assert record.spec.evaluation.gallery_classes == classes
        assert record.metrics["queries"] == images


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A ladder of three rungs, and its features beside it."""
    make_features().save(tmp_path / "f.npz")
    ladder = build_ladder(make_features(), rungs=3, source=str(tmp_path / "f.npz"))
    ladder.save(tmp_path / "l.json")
    return tmp_path


def quick(place: Path, command: str, *arguments: object) -> tuple[object, ...]:
    settings = ("--steps", 4, "--train-batch-size", 24, "--embedding-dim", 8)
    return (command, place / "l.json", "-o", place / "runs", *settings, *arguments)


def test_a_reference_is_done_like_all_runs(small: Path) -> None:
    call = quick(small, "run", "-m", "frozen", "-m", "margin", "--seeds", 2, "--reference",
                 "--reference-null", 1, "--workers", 1)  # fmt: skip
    planned = done(*call, "--dry-run").output
    assert "9 runs: 2 methods x 3 splits x 2 seeds" in planned
    assert "24 more" in planned and "33 to go" in planned
    for part in ("6 matched", "6 shifted", "6 of frozen features", "6 on random splits"):
        assert part in planned
    assert "33 runs done" in done(*call).output
    records = Store(small / "runs").records()
    sides = Counter((record.spec.data.trained_on, record.spec.data.null_draw) for record in records)
    assert sides == {
        ("train", 0): 9, ("matched", 0): 6, ("shifted", 0): 6, ("nothing", 0): 6,
        ("matched", 1): 3, ("shifted", 1): 3,
    }  # fmt: skip
    assert "33 done, 0 failed before, 0 to go" in done(*call, "--dry-run").output
    assert json.loads(done("status", small / "runs", "--format", "json").output)["done"] == 33


@pytest.mark.parametrize(
    ("option", "expected"),
    [("", "ends"), ("--keep-embeddings", "all"), ("--no-keep-embeddings", "none")],
)
def test_embeddings_for_galleries_are_kept(option: str, expected: str, small: Path) -> None:
    more = [option] if option else []
    call = ("-m", "margin", "--seeds", 2, "--reference", "--reference-null", 1, "--workers", 1)
    done(*quick(small, "run", *call, *more))
    store, ladder = Store(small / "runs"), Ladder.load(small / "l.json")
    for record in store.records():
        spec = record.spec
        last = spec.data.split in (ladder.rungs[0].id, ladder.rungs[-1].id)
        kept = {"all": True, "none": False, "ends": last and spec.seed == spec.data.null_draw == 0}
        folder = store.run_directory(record.id)
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("embeddings.npz")}
        whole = {f"half{half}/embeddings.npz" for half in (0, 1)}
        whole = whole if spec.is_reference else {"embeddings.npz"}
        assert names == (whole if kept[expected] else set())


class TestRefused:
    def test_a_null_of_no_reference(self, small: Path) -> None:
        line = refused(2, *quick(small, "run", "-m", "margin", "--reference-null", 2))
        assert "--reference-null 2" in line and line.count("--reference") == 2

    def test_a_reference_of_too_few_test_classes(self, small: Path) -> None:
        ladder = Ladder.load(small / "l.json")
        last = replace(ladder.rungs[2], test_classes=ladder.rungs[2].test_classes[:3])
        replace(ladder, rungs=(*ladder.rungs[:2], last)).save(small / "l.json")
        call = quick(small, "run", "-m", "margin", "--reference", "--dry-run")
        line = refused(2, *call)
        assert "rung 2" in line and "0, 1" in line
        done(*call, "--rung", 0)

    @pytest.mark.parametrize("command", ["train", "tune"])
    def test_a_reference_of_single_runs_and_trials(self, command: str, small: Path) -> None:
        call = quick(small, command, "-m", "margin", "--rung", 0, "--reference")
        assert "--reference" in oodml(*call).stderr and oodml(*call).exit_code == 2

    def test_data_of_another_ladder(self, built: tuple[Path, Path], tmp_path: Path) -> None:
        for number in range(4):
            for sample in range(2):
                save_drawing(tmp_path / "other" / f"c{number}" / f"{sample}.png", number, sample)
        call = ("run", built[0], "--data", tmp_path / "other", "-m", "margin")
        assert "fingerprint" in refused(1, *call, "-o", tmp_path / "r")
        assert not (tmp_path / "r").exists()

    def test_a_directory_of_another_ladder(
        self, built: tuple[Path, Path], ladder: Ladder, tmp_path: Path
    ) -> None:
        ladder.save(tmp_path / "ladder.json")
        call = ("run", built[0], "-m", "frozen", "--cache", built[1], "--workers", 1)
        assert "another ladder" in refused(1, *call, "-o", tmp_path)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("-m margn", "Did you mean 'margin'"),
            ("-m margin --learning-rate nan", "--learning-rate nan"),
            ("-m margin --train-batch-size 1", "--train-batch-size 1"),
            ("-m margin --embedding-dim 2147483648", "at most 65536"),
            ("-m margin --few-shot head --folds 2", "--few-shot"),
            ("-m margin:beta=NaN", "not finite"),
            ("--dry-run", "-m"),
        ],
    )
    def test_settings(self, arguments: str, words: str, built: tuple[Path, Path]) -> None:
        assert words in refused(2, "run", built[0], *arguments.split())

    @pytest.mark.parametrize("kind", ["file", "read-only"])
    @pytest.mark.parametrize(
        "command",
        ["run l.json -m margin", "train l.json -m margin --rung 0",
         "tune l.json -m margin --rung 0", "demo"],
    )  # fmt: skip
    def test_an_output_that_cannot_be_written(
        self, command: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build_ladder(make_features(12, 3, 4), rungs=2, source="nowhere").save(tmp_path / "l.json")
        (tmp_path / "file").touch()
        monkeypatch.chdir(tmp_path)
        if kind == "read-only":  # root may write where nobody may
            monkeypatch.setattr(os, "access", lambda place, mode: mode == os.R_OK)
        output = "file/deep" if kind == "file" else "new/deep"
        line = refused(1, *command.split(), "-o", output)
        assert output in line and "-o DIR" in line
        assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def place(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder of the drawings that remembers their folder, and their features in a file."""
    root = tmp_path_factory.mktemp("views")
    features = extract_features(load_dataset(image_folder), "tiny", cache=root / "cache")
    features.save(root / "features.npz")
    build_ladder(features, rungs=2, source=str(image_folder)).save(root / "ladder.json")
    return root


def run(place: Path, *arguments: object) -> Result:
    return oodml(
        "run", place / "ladder.json", "--cache", place / "cache", "--rung", 0, "--seeds", 1,
        "--workers", 1, "--steps", 2, "--train-batch-size", 12, "-o", place / "runs", *arguments,
    )  # fmt: skip


def test_cached_views_are_made_when_a_run_asks_for_them(place: Path) -> None:
    cached = place / "cache" / "features"
    assert run(place, "-m", "contrastive").exit_code == 0
    assert len(list(cached.iterdir())) == 1
    assert run(place, "-m", "contrastive", "--cached-views", 2).exit_code == 0
    assert len(list(cached.iterdir())) == 3
    records = Store(place / "runs").records()
    assert sorted(record.spec.training.cached_views for record in records) == [0, 2]
    assert len({record.training["loss"] for record in records}) == 2


def test_features_without_images_leave_out_what_needs_cached_views(place: Path) -> None:
    assert NEEDING
    data = ("--data", place / "features.npz")
    every = run(place, "-m", "all", *data, "--dry-run")
    assert every.exit_code == 0, every.output
    assert f"left out: {', '.join(NEEDING)} " in every.output
    for arguments, named in (
        (("-m", NEEDING[0]), NEEDING[0]),
        (("-m", "all", "-m", NEEDING[0]), NEEDING[0]),
        (("-m", "contrastive", "--cached-views", 2), "contrastive"),
    ):
        result = run(place, *arguments, *data)
        assert result.exit_code == 1
        assert named in result.stderr and "--data" in result.stderr
