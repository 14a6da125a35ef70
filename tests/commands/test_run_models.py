"""`oodml run --backbone`: other networks than the one that measured the ladder, from the shell."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from commands.conftest import NETWORK, done, oodml, refused
from conftest import published_cars, save_drawing
from torchvision.models import resnet18

from oodml.data import load_dataset
from oodml.features.extraction import extract_features
from oodml.runs.store import Store
from oodml.splits.exchange import read_splits
from oodml.splits.formats.published_pickle import PublishedSplit
from oodml.splits.ladder import Ladder

QUICK = ("--steps", 3, "--train-batch-size", 12, "--seeds", 1, "--workers", 1)
LITE = "@".join((NETWORK[1], NETWORK[3]))


def refused_line(*arguments: object) -> str:
    result = oodml(*arguments)
    assert result.exit_code in (1, 2) and "Traceback" not in result.output, result.output
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the layout of torchvision's ResNet-18."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18().state_dict(), path)
    return path


@pytest.fixture
def call(built: tuple[Path, Path], tmp_path: Path) -> tuple[object, ...]:
    """The arguments of a small grid of the drawings."""
    ladder, cache = built
    return ("run", ladder, "--cache", cache, "-o", tmp_path / "runs", "-m", "margin", *QUICK)


def test_three_networks_share_a_ladder_a_table_and_a_chart(
    call: tuple[object, ...], weights: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    models = (
        *("--backbone", LITE, "--backbone", "tiny@32", "--backbone", "resnet18@32"),
        *("--weights", f"resnet18@32={weights}", "-m", "frozen"),
    )
    planned = done(*call, *models, "--dry-run").output
    assert "12 runs: 2 methods x 3 backbones x 2 splits x 1 seeds" in planned
    assert "12 runs done" in done(*call, *models).output
    assert "12 done, 0 failed before, 0 to go" in done(*call, *models, "--dry-run").output

    ladder = Ladder.load(built[0])
    records = Store(tmp_path / "runs").records()
    assert {record.ruler for record in records} == {ladder.features.network}
    rows = json.loads(done("table", tmp_path / "runs", "--format", "json").output)
    names = {(row["method"], row["backbone"]) for row in rows}
    assert len(names) == 6 and {method for method, _ in names} == {"frozen", "margin"}
    assert {row["fid"] for row in rows} == {rung.fid for rung in ladder.rungs}
    for row in rows:
        (record,) = (
            r for r in records
            if (r.label, ladder.rung_of(r.spec.data.split)) == (row["method"], row["rung"])
            and r.spec.model.backbone == row["backbone"].partition("@")[0]
        )  # fmt: skip
        assert row["mean"] == pytest.approx(record.metrics["recall_at_1"])
    done("plot", tmp_path / "runs")
    assert (tmp_path / "runs" / "recall_at_1.png").read_bytes().startswith(b"\x89PNG")


def test_the_rulers_own_name_is_the_model_of_a_call_without_one(call: tuple[object, ...]) -> None:
    assert "2 runs done" in done(*call).output
    assert "2 done, 0 failed before, 0 to go" in done(*call, "--backbone", LITE, "--dry-run").output


def test_a_whole_network_that_did_not_measure_the_ladder(
    call: tuple[object, ...], tmp_path: Path
) -> None:
    done(*call, "--backbone", "tiny", "--train", "all", "--rung", 0)
    (record,) = Store(tmp_path / "runs").records()
    model = record.spec.model
    assert (model.backbone, model.train, record.training["steps"]) == ("tiny", "all", 3)


def test_grids_name_their_own_models(
    call: tuple[object, ...], weights: Path, tmp_path: Path
) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text(
        '[[grid]]\nmethods = ["frozen"]\n[[grid]]\nmethods = ["margin"]\n'
        'backbone = ["tiny@32", "resnet18@32"]\n'
    )
    command = [*call[: call.index("-m")], "--grid", grid, "-m", "arcface", *QUICK]
    assert "8 runs done" in done(*command, "--weights", f"resnet18@32={weights}").output
    found = {(r.label, r.spec.model.backbone) for r in Store(tmp_path / "runs").records()}
    assert found == {
        ("frozen", "efficientnet_lite0"), ("arcface", "efficientnet_lite0"),
        ("margin", "tiny"), ("margin", "resnet18"),
    }  # fmt: skip


def test_settings_are_tuned_for_the_model_and_written_with_it(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    ladder, cache = built
    tune = (
        "tune", ladder, "--cache", cache, "-o", tmp_path / "out", "-m", "margin", "--rung", 0,
        "--trials", 1, "--backbone", "tiny@32", *QUICK[:4], "--workers", 1,
    )  # fmt: skip
    done(*tune)
    (grid,) = tomllib.loads((tmp_path / "out" / "best.toml").read_text())["grid"]
    assert grid["backbone"] == ["tiny@32"]
    assert {r.spec.model.backbone for r in Store(tmp_path / "out" / "trials").records()} == {"tiny"}
    assert "one --backbone" in refused(2, *tune, "--backbone", LITE)


def test_the_models_of_a_filter(call: tuple[object, ...], tmp_path: Path) -> None:
    done(*call, "--backbone", LITE, "--backbone", "tiny@32", "--filter", "backbone=tiny,rung=1")
    (record,) = Store(tmp_path / "runs").records()
    assert record.spec.model.backbone == "tiny"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backbone", "resnet81"), "resnet18"),
        (("--weights", "resnet18=w.pth"), "no --backbone resnet18"),
        (("--backbone", "tiny", "--backbone", "resnet18", "--weights", "w.pth"), "say whose"),
        (("--backbone", "tiny", "--weights", "=w.pth"), "NAME=FILE"),
        (("--backbone", "resnet18", "--weights", "w.pth"), "w.pth"),
    ],
)
def test_what_names_no_model_is_one_line_and_nothing_is_begun(
    arguments: tuple[str, ...], words: str, call: tuple[object, ...], tmp_path: Path
) -> None:
    result = refused_line(*call, *arguments)
    assert words in result
    assert not (tmp_path / "runs").exists()


def test_features_in_a_file_serve_their_own_network_only(
    built: tuple[Path, Path], call: tuple[object, ...], image_folder: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(image_folder)
    made = extract_features(dataset, NETWORK[1], image_size=int(NETWORK[3]), cache=built[1])
    made.save(tmp_path / "f.npz")
    data = (*call, "--data", tmp_path / "f.npz")
    assert "2 runs done" in done(*data).output
    assert "--data FOLDER" in refused_line(*data, "--backbone", "tiny")


def test_splits_that_no_network_here_measured_ask_for_a_model_and_their_images(
    built: tuple[Path, Path], call: tuple[object, ...], image_folder: Path, tmp_path: Path
) -> None:
    done("ladder", "export", built[0], "--format", "csv", "-o", tmp_path / "splits.csv")
    done("ladder", "import", tmp_path / "splits.csv", "-o", tmp_path / "splits.json")
    own = ("run", tmp_path / "splits.json", *call[2:])
    assert "--backbone" in refused_line(*own, "--data", image_folder)
    assert "--data SOURCE" in refused_line(*own, "--backbone", "tiny@32")
    run = (*own, "--backbone", "tiny@32", "--data", image_folder)
    assert "2 runs done" in done(*run).output
    assert "2 done, 0 failed before, 0 to go" in done(*run, "--dry-run").output
    assert {(r.ruler, len(r.shift)) for r in Store(tmp_path / "runs").records()} == {("", 0)}
    table = done("table", tmp_path / "runs").output
    assert "FID as the file gives it" in table and "12 classes match" not in table
    # The splits are those of the ladder that was built, so their runs are too: but not its FIDs.
    assert "measured by" in refused_line(*call, "--backbone", "tiny@32")


@pytest.mark.long
@pytest.mark.skipif(not published_cars().exists(), reason="the published splits are not at hand")
def test_the_published_cars_splits_are_measured_and_run_on_three_networks(
    weights: Path, tmp_path: Path
) -> None:
    pool, runs, cache = tmp_path / "pool", tmp_path / "runs", ("--cache", tmp_path / "cache")
    splits = read_splits(published_cars())
    for number, (name, files) in enumerate(named_images(splits).items()):
        for sample, file in enumerate(files):
            save_drawing(pool / name / file, number, sample)
    data = ("--data", pool)
    done("ladder", "import", published_cars(), "-o", tmp_path / "cars.json")
    ruler = ("--backbone", LITE.partition("@")[0], "--image-size", 32, "--null", 4, *cache)
    shown = done(
        "ladder", "measure", tmp_path / "cars.json", *data, *ruler, "-o", tmp_path / "lite.json"
    ).output
    assert "196 classes match." in shown and "published_fid" in shown
    ladder = Ladder.load(tmp_path / "lite.json")
    assert {rung.published_fid for rung in ladder.rungs} == {split.fid for split in splits}
    assert len(ladder.episodes) == 8 and ladder.images(ladder.rungs[0].train_classes) == 2 * 98

    models = (
        *("--backbone", LITE, "--backbone", "tiny", "--backbone", "resnet18@32"),
        *("--weights", f"resnet18@32={weights}", "-m", "frozen", "-m", "margin"),
        *("--rung", 0, "--rung", 7, "--samples-per-class", 2, *QUICK, *cache),
    )
    assert "12 runs done" in done("run", tmp_path / "lite.json", *models, "-o", runs).output
    rows = json.loads(done("table", runs, "--format", "json").output)
    assert len({(row["method"], row["backbone"]) for row in rows}) == 6 and len(rows) == 12
    assert {row["fid"] for row in rows} == {ladder.rungs[0].fid, ladder.rungs[7].fid}
    done("plot", runs)
    assert (runs / "recall_at_1.png").read_bytes().startswith(b"\x89PNG")
    # The same runs along the published FIDs.
    unmeasured = ("run", tmp_path / "cars.json", *data, *models, "-o", tmp_path / "published")
    assert "12 runs done" in done(*unmeasured).output
    rows = json.loads(done("table", tmp_path / "published", "--format", "json").output)
    assert {row["fid"] for row in rows} == {splits[0].fid, splits[7].fid}
    assert "ResNet-50, as published" in done("table", tmp_path / "published").output


def named_images(splits: Sequence[PublishedSplit]) -> dict[str, list[str]]:
    """Two files of every class: those that the splits name first, else made-up ones."""
    named: dict[str, list[str]] = {
        name: [] for split in splits for name in split.train_classes + split.test_classes
    }
    for split in splits:
        for name, files in split.episodes[2][0].items():
            named[name] = named[name] or sorted(files)
    return {name: files or ["0.jpg", "1.jpg"] for name, files in sorted(named.items())}
