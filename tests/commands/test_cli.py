"""The command line as a user meets it: help, one clear line for bad input, the whole path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from oodml.cli import main
from oodml.features.features import Features
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder

NETWORK = ["--backbone", "efficientnet_lite0", "--image-size", "32"]


def oodml(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="oodml")


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    with click.Context(group) as ctx:
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            assert command is not None, name
            found.append((*path, name))
            if isinstance(command, click.Group):
                found += every_command(command, (*path, name))
    return found


@pytest.mark.parametrize("command", every_command(main), ids=" ".join)
def test_every_command_and_option_has_help(command: tuple[str, ...]) -> None:
    result = oodml(*command, "-h")
    assert result.exit_code == 0 and "Usage: oodml" in result.output
    node: click.Command = main
    for name in command:
        assert isinstance(node, click.Group)
        with click.Context(node) as ctx:
            found = node.get_command(ctx, name)
        assert found is not None
        node = found
    assert node.help
    options = [each for each in node.params if isinstance(each, click.Option)]
    assert not [option.opts for option in options if not option.help]


def one_line(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    for word in words:
        assert word in last, last


@pytest.fixture(scope="module")
def built(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A ladder of the drawings and the cache that it was built with."""
    root = tmp_path_factory.mktemp("cli")
    result = oodml(
        "ladder", "build", image_folder, "-o", root / "ladder.json", "--rungs", "2",
        "--min-classes", "3", "--cache", root / "cache", *NETWORK,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "moved" in result.output and "sample level" in result.output
    return root / "ladder.json", root / "cache"


def test_the_path_from_a_folder_to_the_chart(
    built: tuple[Path, Path], tmp_path: Path, image_folder: Path
) -> None:
    ladder, cache = built
    grid = [
        "run", ladder, "--data", image_folder, "--cache", cache, "-o", tmp_path / "runs",
        "-m", "frozen", "-m", "margin:beta=0.9", "--seeds", "2", "--steps", "5",
        "--train-batch-size", "12",
    ]  # fmt: skip
    dry = oodml(*grid, "--dry-run")
    assert dry.exit_code == 0 and "6 runs" in dry.output and "6 to go" in dry.output
    assert not (tmp_path / "runs").exists()
    done = oodml(*grid, "--workers", "1")
    assert done.exit_code == 0, done.output
    assert "6 runs done" in done.output
    assert "6 done, 0 failed before, 0 to go" in oodml(*grid, "--dry-run").output
    assert (
        "6 runs: 6 done, 0 running, 0 failed, 0 missing"
        in oodml("status", tmp_path / "runs").output
    )

    table = oodml("table", tmp_path / "runs")
    assert "margin(beta=0.9)" in table.output and "AGS" in table.output
    records = json.loads(oodml("table", tmp_path / "runs", "--format", "json").output)
    store = Store(tmp_path / "runs")
    values = [r.metrics["recall_at_1"] for r in store.records() if r.label == "margin(beta=0.9)"]
    means = [r["mean"] for r in records if r["method"] == "margin(beta=0.9)"]
    assert sum(means) / 2 == pytest.approx(sum(values) / 4)
    assert "| method" in oodml("table", tmp_path / "runs", "--format", "markdown").output

    plot = oodml("plot", tmp_path / "runs", "--metric", "r_precision")
    assert plot.exit_code == 0, plot.output
    assert (tmp_path / "runs" / "r_precision.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "runs" / "r_precision.svg").read_bytes()


def test_one_run_by_hand(built: tuple[Path, Path], tmp_path: Path) -> None:
    ladder, cache = built
    result = oodml(
        "train", ladder, "--rung", "1", "-m", "arcface", "--steps", "3", "--cache", cache,
        "--train-batch-size", "8", "-o", tmp_path / "one",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "recall_at_1" in result.output


def test_whole_networks_train_from_the_command_line(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    ladder, cache = built
    result = oodml(
        "train", ladder, "--rung", "0", "-m", "margin", "--train", "all", "--steps", "2",
        "--train-batch-size", "8", "--cache", cache, "-o", tmp_path / "whole",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (record,) = Store(tmp_path / "whole").records()
    assert record.spec.model.train == "all" and record.training["steps"] == 2


def test_features_and_the_distance_of_two_files(
    image_folder: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "features.npz"
    made = oodml("features", image_folder, "-o", path, "--cache", built[1], *NETWORK)
    assert made.exit_code == 0 and "72 vectors of 1280" in made.output
    same = json.loads(oodml("fid", path, path, "--format", "json").output)
    assert abs(same["fid"]) < 1e-6
    ladder = oodml("ladder", "build", path, "-o", tmp_path / "l.json", "--rungs", "2")
    assert ladder.exit_code == 0, ladder.output
    first = Ladder.load(tmp_path / "l.json").rungs[0]
    assert first.id == Ladder.load(built[0]).rungs[0].id


def test_ladder_show_prints_what_moved_in_every_format(built: tuple[Path, Path]) -> None:
    ladder = Ladder.load(built[0])
    shown = json.loads(oodml("ladder", "show", built[0], "--format", "json").output)
    assert [row["fid"] for row in shown] == [rung.fid for rung in ladder.rungs]
    before, after = ladder.rungs
    moved = set(before.train_classes) & set(after.test_classes)
    assert set(shown[1]["to_test"]) == moved
    assert "rung,split,fid" in oodml("ladder", "show", built[0], "--format", "csv").output


@pytest.mark.parametrize("what", ["methods", "backbones", "datasets", "metrics"])
def test_names_are_listed(what: str) -> None:
    expected = {
        "methods": "multi_similarity",
        "backbones": "inception_v3",
        "datasets": "emoji",
        "metrics": "r_precision",
    }
    assert expected[what] in oodml("list", what).output


class TestBadInput:
    def test_folders(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        one_line(oodml("ladder", "build", tmp_path / "absent"), 1, "absent")
        one_line(oodml("ladder", "build", tmp_path / "empty"), 1, "empty")

    def test_names(self, image_folder: Path, built: tuple[Path, Path]) -> None:
        one_line(oodml("ladder", "build", "emojy"), 2, "Did you mean 'emoji'")
        one_line(
            oodml("ladder", "build", image_folder, "--backbone", "inception_v4"), 2,
            "Did you mean 'inception_v3'",
        )  # fmt: skip
        one_line(oodml("run", built[0], "-m", "margn"), 2, "Did you mean 'margin'")
        one_line(oodml("tabel", "x"), 2, "Did you mean 'table'")

    def test_a_class_with_one_image(
        self, tmp_path: Path, drawing: Callable[[Path, int, int], None]
    ) -> None:
        for number in range(4):
            for sample in range(2):
                drawing(tmp_path / f"c{number}" / f"{sample}.png", number, sample)
        drawing(tmp_path / "lonely" / "0.png", 9, 0)
        one_line(oodml("ladder", "build", tmp_path, *NETWORK), 1, "lonely")

    def test_a_truncated_image_is_named_and_skipped_only_on_request(
        self, tmp_path: Path, drawing: Callable[[Path, int, int], None]
    ) -> None:
        pool = tmp_path / "pool"
        for number in range(4):
            for sample in range(4):
                drawing(pool / f"c{number}" / f"{sample}.png", number, sample)
        whole = (pool / "c1" / "2.png").read_bytes()
        (pool / "c1" / "2.png").write_bytes(whole[: len(whole) // 2])
        output = tmp_path / "features.npz"
        call = ["features", pool, "-o", output, "--cache", tmp_path / "cache", *NETWORK]
        one_line(oodml(*call), 1, "c1/2.png", "skip_broken")
        assert not output.exists()
        assert oodml(*call, "--skip-broken").exit_code == 0
        assert len(Features.load(output)) == 15

    def test_tables(self, tmp_path: Path) -> None:
        table = tmp_path / "pool.csv"
        table.write_text("file,label\na.png,x\n")
        one_line(oodml("ladder", "build", table), 1, "path")
        table.write_text("path,label\nabsent.png,x\n")
        one_line(oodml("ladder", "build", table), 1, "absent.png")

    def test_a_ladder_of_other_data(
        self,
        built: tuple[Path, Path],
        tmp_path: Path,
        drawing: Callable[[Path, int, int], None],
    ) -> None:
        for number in range(4):
            for sample in range(2):
                drawing(tmp_path / "other" / f"c{number}" / f"{sample}.png", number, sample)
        result = oodml(
            "run", built[0], "--data", tmp_path / "other", "-m", "margin", "-o", tmp_path / "r"
        )
        one_line(result, 1, "fingerprint")
        assert not (tmp_path / "r").exists()

    def test_too_few_classes(
        self, tmp_path: Path, drawing: Callable[[Path, int, int], None]
    ) -> None:
        for number in range(3):
            for sample in range(2):
                drawing(tmp_path / "pool" / f"c{number}" / f"{sample}.png", number, sample)
        output = tmp_path / "ladder.json"
        call = ["ladder", "build", tmp_path / "pool", "-o", output, *NETWORK]
        one_line(oodml(*call, "--cache", tmp_path / "cache"), 2, "at least 4")
        assert not output.exists()

    def test_more_rungs_than_there_are(self, image_folder: Path, built: tuple[Path, Path]) -> None:
        call = ["ladder", "build", image_folder, "--rungs", "99", "--cache", built[1], *NETWORK]
        one_line(oodml(*call), 2, "rungs")

    def test_results_that_are_not_there(self, tmp_path: Path) -> None:
        one_line(oodml("table", tmp_path / "absent"), 1, "absent")
        one_line(oodml("table", tmp_path), 1, "oodml run")
        one_line(oodml("status", tmp_path / "absent"), 1, "absent")

    def test_runs_of_another_ladder(
        self, built: tuple[Path, Path], ladder: Ladder, tmp_path: Path
    ) -> None:
        ladder.save(tmp_path / "ladder.json")
        result = oodml(
            "run", built[0], "-m", "frozen", "-o", tmp_path, "--cache", built[1], "--workers", "1"
        )
        one_line(result, 1, "another ladder")

    def test_a_place_that_cannot_be_written(self, built: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        call = ["run", built[0], "-m", "frozen", "--cache", built[1], "--workers", "1"]
        one_line(oodml(*call, "-o", tmp_path / "file" / "runs"), 1, "is a file, so")

    def test_numbers_that_are_none(self, built: tuple[Path, Path]) -> None:
        one_line(oodml("run", built[0], "-m", "margin", "--learning-rate", "nan"), 2, "nan")
        one_line(oodml("run", built[0], "-m", "margin:beta=NaN"), 2, "not finite")

    def test_a_config_file(self, tmp_path: Path, image_folder: Path) -> None:
        config = tmp_path / "oodml.toml"
        config.write_text("[ladder.build]\nrung = 3\n")
        call = ["--config", config, "ladder", "build", image_folder, *NETWORK]
        one_line(oodml(*call), 2, "Did you mean 'rungs'")
        config.write_text("[lader]\n")
        one_line(oodml(*call), 2, "Did you mean 'ladder'")
        config.write_text("[ladder.build]\nrungs = 1\n")
        one_line(oodml(*call, "--cache", tmp_path / "cache"), 2, "1 is not in the range x>=2")
        config.write_text("[[")
        one_line(oodml(*call), 2, "TOML")
