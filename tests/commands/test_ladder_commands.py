from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oodml.cli import main
from oodml.features.features import Features
from oodml.launch import run_grid
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.controls import add_controls, add_null
from oodml.splits.gallery import equal_gallery
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources
from oodml.train.plan import plan


def oodml(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def pool(features: Features) -> Features:
    names = tuple(f"a/{i:04d}.png" for i in range(len(features)))
    groups = tuple(f"group {i % 3}" for i in range(len(features.class_names)))
    return replace(features, sample_names=names, groups=groups)


@pytest.fixture(scope="module")
def files(ladder: Ladder, pool: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    pool.save(folder / "features.npz")
    built = add_null(add_controls(replace(ladder, source=str(folder / "features.npz")), pool),
                     pool, 4)  # fmt: skip
    built.save(folder / "ladder.json")
    return folder


@pytest.mark.parametrize("view", ["trajectory", "projection", "composition"])
def test_plot_writes_every_view(files: Path, tmp_path: Path, view: str) -> None:
    done = oodml("ladder", "plot", files / "ladder.json", "--view", view, "-o", tmp_path / "a.png")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "a.png").stat().st_size > 3000


def test_what_plot_cannot_draw_is_one_line(files: Path, tmp_path: Path) -> None:
    done = oodml(
        "ladder", "plot", files / "ladder.json", "--view", "moves", "-o", tmp_path / "a.png"
    )
    assert done.exit_code == 1 and "holds features" in done.stderr
    assert done.stderr.count("\n") == 1
    done = oodml("ladder", "plot", files / "ladder.json", "-o", tmp_path / "a.txt")
    assert done.exit_code == 2 and ".png, .svg or .pdf" in done.stderr


def test_compare_prints_text_and_json(files: Path) -> None:
    ladder = files / "ladder.json"
    text = oodml("ladder", "compare", ladder, ladder, "--keys")
    assert text.exit_code == 0, text.output
    assert "keys on rung 0: 1.000" in text.stdout and "same split" in text.stdout
    record = json.loads(oodml("ladder", "compare", ladder, ladder, "--format", "json").stdout)
    assert record["curve_distance"] == 0 and record["key_correlation"] is None
    assert [rung["jaccard_test"] for rung in record["rungs"]] == [1, 1, 1]


def test_a_ladder_goes_out_and_comes_back(files: Path, tmp_path: Path) -> None:
    ladder, data, pkl = files / "ladder.json", files / "features.npz", tmp_path / "own.pkl"
    out = oodml("ladder", "export", ladder, "--format", "pickle", "--data", data, "-o", pkl)
    assert out.exit_code == 0, out.output
    assert list(pickle.loads(pkl.read_bytes())[1]["test_episodes"]) == [2, 5]
    back = oodml("ladder", "import", pkl, "-o", tmp_path / "back.json")
    assert back.exit_code == 0 and "as published" in back.stdout
    assert not Ladder.load(tmp_path / "back.json").measured
    again = oodml("ladder", "import", pkl, "--data", data, "--level", "sample", "-o",
                  tmp_path / "again.json")  # fmt: skip
    assert again.exit_code == 0 and "24 classes match." in again.stdout
    measured = Ladder.load(tmp_path / "again.json")
    original = Ladder.load(ladder)
    assert [rung.id for rung in measured.rungs] == [rung.id for rung in original.rungs]
    assert [r.fid for r in measured.rungs] == pytest.approx([r.fid for r in original.rungs])


def test_a_hostile_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"cos\nsystem\n(Vtouch x\ntR.")
    done = oodml("ladder", "import", path, "-o", tmp_path / "ladder.json")
    assert done.exit_code == 1 and "os.system" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "ladder.json").exists()
    done = oodml("ladder", "import", path, "--backbone", "x")
    assert done.exit_code == 2 and "--data" in done.stderr


def test_an_unmeasured_ladder_has_no_features_to_run_on(files: Path, tmp_path: Path) -> None:
    oodml("ladder", "export", files / "ladder.json", "--format", "csv", "-o", tmp_path / "a.csv")
    oodml("ladder", "import", tmp_path / "a.csv", "-o", tmp_path / "a.json")
    done = oodml("ladder", "plot", tmp_path / "a.json", "--view", "projection", "-o",
                 tmp_path / "a.png", "--data", files / "features.npz")  # fmt: skip
    assert done.exit_code == 1 and "--backbone" in done.stderr


def test_show_prints_the_excess_and_the_controls(files: Path) -> None:
    done = oodml("ladder", "show", files / "ladder.json")
    assert "excess" in done.stdout and "controls" in done.stdout
    assert "4 random splits" in done.stdout


def test_controls_are_planned_run_and_told_apart(
    files: Path, pool: Features, tmp_path: Path
) -> None:
    ladder = Ladder.load(files / "ladder.json")
    ladder.save(tmp_path / "ladder.json")
    plain = plan(ladder, ["frozen"], [0])
    both = plan(ladder, ["frozen"], [0], controls=True)
    assert [spec.id for spec in both[:3]] == [spec.id for spec in plain]
    assert [spec.split for spec in both[3:]] == [control.id for control in ladder.controls]
    outcome = run_grid(both, ladder, Resources(pool), Store(tmp_path))
    assert outcome.done == 6
    table = oodml("table", tmp_path, "--format", "json")
    rows = json.loads(table.stdout)
    assert [row["control"] for row in rows] == [False] * 3 + [True] * 3
    assert rows[3]["fid"] == rows[0]["fid"] and rows[3]["split"] == ladder.controls[0].id
    measured = {r.spec.split: r.metrics["recall_at_1"] for r in Store(tmp_path).records()}
    assert [row["mean"] for row in rows] == [measured[row["split"]] for row in rows]
    assert "size-matched controls" in oodml("table", tmp_path).stdout
    assert oodml("plot", tmp_path, "-o", tmp_path / "with.svg").exit_code == 0
    assert "pale dashes: random splits" in drawn_text(tmp_path / "with.svg")
    bare = replace(ladder, controls=())
    assert oodml("run", save(bare, tmp_path), "-m", "frozen", "--controls").exit_code == 2


def save(ladder: Ladder, folder: Path) -> Path:
    ladder.save(folder / "bare.json")
    return folder / "bare.json"


def drawn_text(path: Path) -> str:
    return path.read_text()


def test_the_gallery_is_a_setting_that_leaves_old_ids_alone(
    files: Path, pool: Features, tmp_path: Path
) -> None:
    ladder = Ladder.load(files / "ladder.json")
    spec = plan(ladder, ["frozen"], [0])[0]
    assert "gallery_classes" not in spec.to_json()
    assert RunSpec.from_json(spec.to_json()).id == spec.id
    classes, images = equal_gallery(ladder, [0], controls=False)
    small = plan(ladder, ["frozen"], [0], gallery_classes=classes, gallery_images=images)
    assert small[0].id != spec.id
    run_grid([spec, *small], ladder, Resources(pool), Store(tmp_path))
    queries = {
        record.spec.gallery_classes: record.metrics["queries"]
        for record in Store(tmp_path).records()
        if record.spec.split == spec.split
    }
    assert queries[classes] == images < queries[0]
