"""`oodml ladder build`, `pair` and `show`, and what they refuse."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from commands.conftest import NETWORK, done, oodml, refused
from conftest import make_features, save_drawing

from oodml.features.features import Features
from oodml.splits.ladder import Ladder


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features = make_features(classes=30, per_class=8, dimension=5, seed=5)
    path = tmp_path_factory.mktemp("features") / "pool.npz"
    replace(features, groups=tuple(f"group {i % 10}" for i in range(30))).save(path)
    return path


@pytest.mark.parametrize(
    ("options", "rungs"),
    [
        ("--rungs 3 --null 0", 3),
        ("--steps -1,0,2 --search transport --null 3", 3),
        ("--fids 5,20 --search best --budget 10 --null 3", 2),
        ("--by group --rungs 2 --null 0 --train-fraction 0.4", 2),
        ("--search milbich2021 --rungs 3 --null 0", 3),
        ("--rungs 3 --no-easier --null 2 --level class", 3),
    ],
)
def test_every_way_of_building_writes_a_ladder(
    pool: Path, tmp_path: Path, options: str, rungs: int
) -> None:
    done("ladder", "build", pool, "-o", tmp_path / "l.json", *options.split())
    ladder = Ladder.load(tmp_path / "l.json")
    assert len(ladder.rungs) == rungs
    nulls = [rung.shift.null_mean for rung in ladder.rungs if rung.shift]
    assert [null is not None for null in nulls] == rungs * ["--null 0" not in options]


def test_a_start_and_a_pair_come_from_files(pool: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    build = ("ladder", "build", pool, "--null", 0)
    done(*build, "-o", first, "--rungs", 3)
    done(*build, "-o", tmp_path / "next.json", "--rungs", 2, "--start", f"{first}:1", "--no-easier")
    assert Ladder.load(tmp_path / "next.json").rungs[0].id == Ladder.load(first).rungs[1].id
    other = make_features(classes=8, per_class=6, dimension=5, seed=8)
    names = tuple(f"kind {i}" for i in range(8))
    source = replace(other.source, fingerprint="f" * 16)
    replace(other, class_names=names, source=source).save(tmp_path / "other.npz")
    done("ladder", "pair", pool, tmp_path / "other.npz", "--beside", first,
         "-o", tmp_path / "pair.json", "--save-features", tmp_path / "both.npz")  # fmt: skip
    rungs = Ladder.load(tmp_path / "pair.json").rungs
    assert any(rung.test_classes == names for rung in rungs)
    # The ladder remembers the features of both, so runs on it need nothing else.
    runs = done("run", tmp_path / "pair.json", "-m", "frozen", "-m", "margin", "--seeds", 1,
                "--steps", 3, "--train-batch-size", 8, "--workers", 1,
                "-o", tmp_path / "runs")  # fmt: skip
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
    build = ("ladder", "build", pool, "-o", tmp_path / "l.json", "--no-easier", "--null", 0)
    done(*build, "--rungs", 2, "--start", f"{path}:12")
    ladder = Ladder.load(tmp_path / "l.json")
    assert ladder.rungs[0].test_classes == tuple(names[:12])
    assert ladder.settings.start == f"{path}:12"
    assert "11 to 12" in refused(2, *build, "--start", f"{path}:3")


def test_features_in_a_file_build_the_ladder_of_their_images(
    image_folder: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "features.npz"
    made = done("features", image_folder, "-o", path, "--cache", built[1], *NETWORK)
    assert "72 vectors of 1280" in made.output
    done("ladder", "build", path, "-o", tmp_path / "l.json", "--rungs", 2)
    rungs = Ladder.load(tmp_path / "l.json").rungs
    assert rungs[0].id == Ladder.load(built[0]).rungs[0].id


def test_show_prints_the_rungs_and_what_moved(built: tuple[Path, Path]) -> None:
    ladder = Ladder.load(built[0])
    rows = json.loads(done("ladder", "show", built[0], "--format", "json").output)
    for row, rung in zip(rows, ladder.rungs, strict=True):
        assert rung.shift is not None
        assert (row["fid"], row["train_images"]) == (rung.fid, rung.shift.n_train)
    before, after = ladder.rungs
    assert set(rows[1]["to_test"]) == set(before.train_classes) & set(after.test_classes)
    text = done("ladder", "show", built[0]).output
    assert "rung 1 moved" in text and "excess" in text and "20 random splits" in text


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ("--fids 1000000", "out of reach"),
            ("--steps 0,1000", "out of reach: 1000"),
            ("--rungs 99", "99 rungs"),
        ],
    )
    def test_rungs_that_the_trajectory_lacks(
        self, pool: Path, tmp_path: Path, options: str, words: str
    ) -> None:
        call = ("ladder", "build", pool, "-o", tmp_path / "l.json", "--null", 0)
        assert words in refused(2, *call, *options.split())
        assert not (tmp_path / "l.json").exists()

    def test_sources(self, tmp_path: Path, image_folder: Path) -> None:
        (tmp_path / "empty").mkdir()
        table = tmp_path / "pool.csv"
        table.write_text("path,label\nabsent.png,x\n")
        for code, source, words in (
            (1, tmp_path / "absent", "absent"),
            (1, tmp_path / "empty", "empty"),
            (2, "emojy", "Did you mean 'emoji'"),
            (1, table, "absent.png"),
        ):
            assert words in refused(code, "ladder", "build", source)
        unknown = ("ladder", "build", image_folder, "--backbone", "inception_v4")
        assert "Did you mean 'inception_v3'" in refused(2, *unknown)

    @pytest.mark.parametrize(
        ("sizes", "code", "words"), [((2, 2, 2, 2, 1), 1, "class 4"), ((2, 2, 2), 2, "at least 4")]
    )
    def test_classes_too_small_or_too_few(
        self, sizes: tuple[int, ...], code: int, words: str, tmp_path: Path
    ) -> None:
        for number, size in enumerate(sizes):
            for sample in range(size):
                save_drawing(tmp_path / f"class {number}" / f"{sample}.png", number, sample)
        call = ("ladder", "build", tmp_path, "-o", tmp_path / "l.json", *NETWORK)
        assert words in refused(code, *call, "--cache", tmp_path.parent / "cache")
        assert not (tmp_path / "l.json").exists()

    def test_a_truncated_image_unless_broken_ones_are_skipped(self, tmp_path: Path) -> None:
        for number in range(4):
            for sample in range(4):
                save_drawing(tmp_path / "pool" / f"c{number}" / f"{sample}.png", number, sample)
        torn = tmp_path / "pool" / "c1" / "2.png"
        torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
        output = tmp_path / "features.npz"
        call = ("features", tmp_path / "pool", "-o", output, "--cache", tmp_path / "c", *NETWORK)
        line = refused(1, *call)
        assert "c1/2.png" in line and "--skip-broken" in line
        assert not output.exists()
        assert oodml(*call, "--skip-broken").exit_code == 0
        assert len(Features.load(output)) == 15


def test_a_ladder_of_few_classes_says_so(built: tuple[Path, Path]) -> None:
    assert "classes a side: below 100" in done("ladder", "show", built[0]).output
