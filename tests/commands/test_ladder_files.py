"""`oodml ladder import`, `measure`, `export`, `compare` and `plot`."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from commands.conftest import done, refused
from conftest import save_drawing

from oodml.data import load_dataset
from oodml.features.extraction import extract_features
from oodml.features.features import Features
from oodml.splits.ladder import Ladder
from oodml.splits.measure import measure_ladder


@pytest.fixture(scope="module")
def files(ladder: Ladder, features: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder and its features, with sample names and groups."""
    folder = tmp_path_factory.mktemp("commands")
    names = tuple(f"a/{i:04d}.png" for i in range(len(features)))
    groups = tuple(f"group {i % 3}" for i in range(len(features.class_names)))
    replace(features, sample_names=names, groups=groups).save(folder / "features.npz")
    replace(ladder, source=str(folder / "features.npz")).save(folder / "ladder.json")
    return folder


@pytest.mark.parametrize("view", ["trajectory", "projection", "composition"])
def test_plot_writes_every_view(files: Path, tmp_path: Path, view: str) -> None:
    done("ladder", "plot", files / "ladder.json", "--view", view, "-o", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 3000


def test_plot_refuses_what_it_cannot_draw(files: Path, tmp_path: Path) -> None:
    call = ("ladder", "plot", files / "ladder.json")
    for code, words, *arguments in (
        (1, "features.npz", "--view", "moves", "-o", tmp_path / "a.png"),
        (2, "--projection", "--projection", "umap", "-o", tmp_path / "a.png"),
        (2, "--most", "--most", 3, "-o", tmp_path / "a.png"),
        (2, ".png, .svg or .pdf", "-o", tmp_path / "a.txt"),
    ):
        assert words in refused(code, *call, *arguments)
    assert not list(tmp_path.iterdir())


def test_compare_prints_text_and_json(files: Path) -> None:
    ladder = files / "ladder.json"
    text = done("ladder", "compare", ladder, ladder, "--keys").stdout
    assert "1.000" in text and "same split" in text
    record = json.loads(done("ladder", "compare", ladder, ladder, "--format", "json").stdout)
    assert record["curve_distance"] == 0 and record["key_correlation"] is None
    assert [rung["jaccard_test"] for rung in record["rungs"]] == [1, 1, 1]


def test_a_ladder_goes_out_and_comes_back(files: Path, tmp_path: Path) -> None:
    ladder, data, pkl = files / "ladder.json", files / "features.npz", tmp_path / "own.pkl"
    done("ladder", "export", ladder, "--format", "pickle", "--data", data, "-o", pkl)
    assert list(pickle.loads(pkl.read_bytes())[1]["test_episodes"]) == [2, 5]
    assert "as published" in done("ladder", "import", pkl, "-o", tmp_path / "back.json").stdout
    assert not Ladder.load(tmp_path / "back.json").measured
    done("ladder", "import", pkl, "--data", data, "--level", "sample", "-o", tmp_path / "m.json")
    measured, original = Ladder.load(tmp_path / "m.json"), Ladder.load(ladder)
    assert [rung.id for rung in measured.rungs] == [rung.id for rung in original.rungs]
    assert [r.fid for r in measured.rungs] == pytest.approx([r.fid for r in original.rungs])


@pytest.mark.parametrize("command", ["import", "export"])
def test_the_sides_of_a_csv_are_explained(command: str) -> None:
    text = " ".join(done("ladder", command, "--help").stdout.split())
    assert "train, validation or test" in text and "training classes" in text


def test_an_imported_csv_names_its_dataset_and_claims_no_network(
    files: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own.csv"
    done("ladder", "export", files / "ladder.json", "--format", "csv", "-o", path)
    shown = done("ladder", "import", path, "-o", tmp_path / "plain.json").stdout
    assert "FID as the file gives it" in shown
    assert "ResNet" not in shown and "as published" not in shown
    for number in range(2):
        for name in Ladder.load(tmp_path / "plain.json").class_sizes:
            save_drawing(tmp_path / "photos" / name / f"{number}.png", number, number)
    call = ("ladder", "import", path, "--data", tmp_path / "photos", "-o", tmp_path / "own.json")
    shown = done(*call).stdout
    assert "dataset photos (" in shown and "no images yet" not in shown


def test_measure_puts_another_ruler_on_the_same_splits(
    built: tuple[Path, Path], image_folder: Path, tmp_path: Path
) -> None:
    ladder, cache = built
    call = ("ladder", "measure", ladder, "--backbone", "tiny", "--null", 3, "--cache", cache)
    shown = done(*call, "-o", tmp_path / "tiny.json").stdout
    assert "former_fid: FID (sample level, efficientnet_lite0)" in shown and "same order" in shown
    first, measured = Ladder.load(ladder), Ladder.load(tmp_path / "tiny.json")
    pool = extract_features(load_dataset(image_folder), "tiny", cache=cache)
    assert measured == replace(measure_ladder(first, pool, null=3), source=first.source)
    rows = json.loads(done("ladder", "show", tmp_path / "tiny.json", "--format", "json").stdout)
    assert {row["split"]: row["former_fid"] for row in rows} == {r.id: r.fid for r in first.rungs}
    assert rows[0]["ruler"].startswith("tiny [") and rows[0]["level"] == "sample"
    assert rows[0]["former_ruler"] == first.features.network
    assert all(row["excess"] == row["fid"] - row["null_mean"] for row in rows)
    # Splits of a file are measured in one step or in two.
    csv, two = tmp_path / "splits.csv", tmp_path / "two.json"
    done("ladder", "export", ladder, "--format", "csv", "-o", csv)
    network = ("--backbone", "tiny", "--data", image_folder, "--cache", cache)
    shown = done("ladder", "import", csv, *network, "-o", tmp_path / "one.json").stdout
    assert "published_fid: as the splits came with it" in shown
    done("ladder", "import", csv, "-o", tmp_path / "unmeasured.json")
    done("ladder", "measure", tmp_path / "unmeasured.json", *network, "-o", two)
    assert (tmp_path / "one.json").read_bytes() == two.read_bytes()
    assert Ladder.load(two).settings.level == "class"
    text = done("ladder", "compare", ladder, tmp_path / "tiny.json").stdout
    assert "The ladders start from the same split" in text


def test_runs_under_two_rulers_do_not_share_a_directory(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    ladder, cache = built
    measured = tmp_path / "tiny.json"
    done("ladder", "measure", ladder, "--backbone", "tiny", "--cache", cache, "-o", measured)
    run = ("-m", "frozen", "--cache", cache, "--workers", 1, "-o", tmp_path / "results")
    done("run", ladder, *run)
    rulers = [Ladder.load(path).features.network for path in (ladder, measured)]
    refusals = [refused(1, "run", measured, *run)]
    # Nor is the ladder of a directory exchanged under its runs.
    shutil.copy(measured, tmp_path / "results" / "ladder.json")
    charts = ("-o", tmp_path / "chart.svg")
    for command in (("table",), ("table", "--view", "ranks"), ("report",), ("plot", *charts)):
        refusals.append(refused(1, command[0], tmp_path / "results", *command[1:]))
    assert all(ruler in words for ruler in rulers for words in refusals)
    assert not (tmp_path / "chart.svg").exists()


def test_measure_refuses_what_cannot_measure_the_splits(
    built: tuple[Path, Path], files: Path, tmp_path: Path
) -> None:
    ladder, cache = built
    other = tmp_path / "other"
    for number in range(4):
        save_drawing(other / "ab"[number % 2] / f"{number}.png", number, 0)
    network = ("--backbone", "tiny", "--cache", cache)
    done("ladder", "export", ladder, "--format", "csv", "-o", tmp_path / "splits.csv")
    done("ladder", "import", tmp_path / "splits.csv", "-o", tmp_path / "none.json")
    for code, words, *call in (
        (2, "--backbone", ladder),
        (2, "Did you mean 'tiny'", ladder, "--backbone", "tyni"),
        (1, "fingerprint", ladder, *network, "--data", other),
        (1, "fingerprint", ladder, "--data", files / "features.npz"),
        (1, "no file or folder", ladder, *network, "--data", tmp_path / "nowhere"),
        (2, "leave --backbone out", ladder, *network, "--data", files / "features.npz"),
        (1, "--data SOURCE", files / "ladder.json", *network),
        (1, "--data SOURCE", tmp_path / "none.json", *network),
        (1, "missing in the data", tmp_path / "none.json", *network, "--data", other),
        (2, "another -o FILE", ladder, *network, "-o", ladder),
    ):
        out = () if "-o" in call else ("-o", tmp_path / "out.json")
        assert words in refused(code, "ladder", "measure", *call, *out)
    call = ("ladder", "import", tmp_path / "splits.csv", "-o", tmp_path / "out.json")
    assert "leave --null out" in refused(2, *call, "--null", 4)
    assert not (tmp_path / "out.json").exists()


def test_a_hostile_pickle_is_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"cos\nsystem\n(Vtouch x\ntR.")
    assert "os.system" in refused(1, "ladder", "import", path, "-o", tmp_path / "ladder.json")
    assert "--data" in refused(2, "ladder", "import", path, "--backbone", "x")
    assert not (tmp_path / "ladder.json").exists()


def test_an_unmeasured_ladder_has_no_features_to_run_on(files: Path, tmp_path: Path) -> None:
    done("ladder", "export", files / "ladder.json", "--format", "csv", "-o", tmp_path / "a.csv")
    done("ladder", "import", tmp_path / "a.csv", "-o", tmp_path / "a.json")
    plot = ("ladder", "plot", tmp_path / "a.json", "--view", "projection")
    data = ("--data", files / "features.npz")
    assert "--backbone" in refused(1, *plot, *data, "-o", tmp_path / "a.png")
