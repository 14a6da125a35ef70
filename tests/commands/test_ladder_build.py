from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import make_features

from oodml.cli import main
from oodml.splits.ladder import Ladder


def oodml(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="oodml")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features = make_features(classes=30, per_class=8, dimension=5, seed=5)
    path = tmp_path_factory.mktemp("features") / "pool.npz"
    replace(features, groups=tuple(f"group {i % 10}" for i in range(30))).save(path)
    return path


@pytest.mark.parametrize(
    ("options", "rungs"),
    [
        (["--rungs", "3", "--null", "0"], 3),
        (["--steps", "-1,0,2", "--search", "transport", "--null", "3"], 3),
        (["--fids", "5,20", "--search", "best", "--budget", "10", "--null", "3"], 2),
        (["--by", "group", "--rungs", "2", "--null", "0", "--train-fraction", "0.4"], 2),
        (["--search", "milbich2021", "--rungs", "3", "--null", "0"], 3),
        (["--rungs", "3", "--no-easier", "--null", "2", "--level", "class"], 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_every_way_of_building_writes_a_ladder(
    pool: Path, tmp_path: Path, options: list[str], rungs: int
) -> None:
    result = oodml("ladder", "build", pool, "-o", tmp_path / "l.json", *options)
    assert result.exit_code == 0, result.output
    ladder = Ladder.load(tmp_path / "l.json")
    assert len(ladder.rungs) == rungs
    measured = "--null" in options and options[options.index("--null") + 1] != "0"
    nulls = [rung.shift.null_mean for rung in ladder.rungs if rung.shift]
    assert [null is not None for null in nulls] == rungs * [measured]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rungs", "3", "--steps", "0,1"], "rungs and steps"),
        (["--fids", "1,x"], "20,40,60"),
        (["--fids", "1000000"], "out of reach"),
        (["--steps", "0,1000"], "out of reach: 1000"),
        (["--start", "nothing.csv"], "no split at"),
        (["--search", "milbich2021", "--level", "sample"], "leave"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(
    pool: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    result = oodml("ladder", "build", pool, "-o", tmp_path / "l.json", "--null", "0", *options)
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and words in last
    assert not (tmp_path / "l.json").exists()


def test_a_start_and_a_pair_come_from_files(pool: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    assert oodml("ladder", "build", pool, "-o", first, "--rungs", "3", "--null", "0").exit_code == 0
    result = oodml("ladder", "build", pool, "-o", tmp_path / "next.json", "--rungs", "2",
                   "--start", f"{first}:1", "--no-easier", "--null", "0")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert Ladder.load(tmp_path / "next.json").rungs[0].id == Ladder.load(first).rungs[1].id
    other = make_features(classes=8, per_class=6, dimension=5, seed=8)
    names = tuple(f"kind {i}" for i in range(8))
    source = replace(other.source, fingerprint="f" * 16)
    replace(other, class_names=names, source=source).save(tmp_path / "other.npz")
    pair = oodml("ladder", "pair", pool, tmp_path / "other.npz", "--beside", first,
                 "-o", tmp_path / "pair.json",
                 "--save-features", tmp_path / "both.npz")  # fmt: skip
    assert pair.exit_code == 0, pair.output
    rungs = Ladder.load(tmp_path / "pair.json").rungs
    assert any(rung.test_classes == names for rung in rungs)
    # The ladder remembers the features of both, so runs on it need nothing else.
    runs = oodml("run", tmp_path / "pair.json", "-m", "frozen", "-m", "margin", "--seeds", "1",
                 "--steps", "3", "--train-batch-size", "8", "--workers", "1",
                 "-o", tmp_path / "runs")  # fmt: skip
    assert runs.exit_code == 0, runs.output
    assert f"{2 * len(rungs)} runs done" in runs.output


def test_a_published_pickle_names_the_start(pool: Path, tmp_path: Path) -> None:
    names = [f"class {i:03d}" for i in range(30)]
    splits = {
        key: {"train": names[key:], "test": names[:key], "fid": float(key), "split_train": [],
              "split_val": [], "test_episodes": {}}
        for key in (11, 12)
    }  # fmt: skip
    path = tmp_path / "published.pkl"
    path.write_bytes(pickle.dumps(splits, protocol=3))
    build = ("ladder", "build", pool, "-o", tmp_path / "l.json", "--no-easier", "--null", "0")
    result = oodml(*build, "--rungs", "2", "--start", f"{path}:12")
    assert result.exit_code == 0, result.output
    ladder = Ladder.load(tmp_path / "l.json")
    assert ladder.rungs[0].test_classes == tuple(names[:12])
    assert ladder.settings.start == f"{path}:12"
    result = oodml(*build, "--start", f"{path}:3")
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1].endswith("has no split 3; it has 11 to 12.")


def test_the_images_shown_are_those_of_the_rungs_classes(pool: Path, tmp_path: Path) -> None:
    path = tmp_path / "ladder.json"
    result = oodml("ladder", "build", pool, "-o", path, "--rungs", "3", "--null", "0")
    assert result.exit_code == 0, result.output
    rows = json.loads(oodml("ladder", "show", path, "--format", "json").output)
    for row, rung in zip(rows, Ladder.load(path).rungs, strict=True):
        assert rung.shift is not None and row["train_images"] == rung.shift.n_train
