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
from oodml.splits.build.construction import add_null
from oodml.splits.equal_size import equal_gallery
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
    built = add_null(replace(ladder, source=str(folder / "features.npz")), pool, 4)
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
    for given in (("--projection", "umap"), ("--most", "3")):
        done = oodml("ladder", "plot", files / "ladder.json", *given, "-o", tmp_path / "a.png")
        assert done.exit_code == 2 and given[0] in done.stderr
    done = oodml("ladder", "plot", files / "ladder.json", "-o", tmp_path / "a.txt")
    assert done.exit_code == 2 and ".png, .svg or .pdf" in done.stderr


def test_compare_prints_text_and_json(files: Path) -> None:
    ladder = files / "ladder.json"
    text = oodml("ladder", "compare", ladder, ladder, "--keys")
    assert text.exit_code == 0, text.output
    assert "keys at the start: 1.000" in text.stdout and "same split" in text.stdout
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


def test_show_prints_the_excess(files: Path) -> None:
    done = oodml("ladder", "show", files / "ladder.json")
    assert "excess" in done.stdout and "4 random splits" in done.stdout


def test_the_gallery_is_a_setting_that_leaves_old_ids_alone(
    files: Path, pool: Features, tmp_path: Path
) -> None:
    ladder = Ladder.load(files / "ladder.json")
    spec = plan(ladder, ["frozen"], [0])[0]
    assert "gallery_classes" not in spec.to_json()
    assert RunSpec.from_json(spec.to_json()).id == spec.id
    classes, images = equal_gallery(ladder, [0])
    small = plan(ladder, ["frozen"], [0], gallery_classes=classes, gallery_images=images)
    assert small[0].id != spec.id
    run_grid([spec, *small], ladder, Resources(pool), Store(tmp_path))
    queries = {
        record.spec.evaluation.gallery_classes: record.metrics["queries"]
        for record in Store(tmp_path).records()
        if record.spec.data.split == spec.data.split
    }
    assert queries[classes] == images < queries[0]
