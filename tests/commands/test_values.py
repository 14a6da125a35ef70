"""Values that no command can use: refused in one line before any image is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import make_features

from oodml.cli import main
from oodml.splits.build.construction import build_ladder


def oodml(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="oodml")


# The folder of images does not exist: whoever complains of that has begun to look for images.
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("ladder build nowhere --rungs 1", "1 is not in the range x>=2"),
        ("ladder build nowhere --null 1", "1 is too few; give 2 or more, or 0"),
        ("ladder build nowhere --train-fraction nan", "nan is not a finite number"),
        ("ladder build nowhere --train-fraction 1", "1.0 is not in the range 0<x<1"),
        ("ladder build nowhere --swap-size 0", "0 is not in the range x>=1"),
        ("ladder build nowhere --min-classes 1", "1 is not in the range x>=2"),
        ("ladder build nowhere --fids 1,nan", "'1,nan' is not a list of numbers"),
        ("ladder build nowhere --start nonsense", "allowed are a CSV with the columns"),
        ("ladder build nowhere --start no.json:3", "no split at no.json"),
        ("ladder build nowhere --start a.json:" + "9" * 5000, "allowed are a CSV"),
        ("ladder build nowhere --search milbich2021 --by group", "leave level and by out"),
        ("ladder build nowhere --budget 3", "budget 3"),
        ("ladder build nowhere --rungs 3 --steps 1,2", "rungs and steps"),
        ("ladder build nowhere --image-size 99999999999999999999", "range 16<=x<=4096"),
        ("features nowhere -o f.npz --image-size 15", "range 16<=x<=4096"),
        ("features nowhere -o", "requires an argument"),
        ("fid nowhere nowhere --null 1", "1 is too few"),
        ("fid nowhere nowhere --bootstrap 19", "19 is too few; give 20 or more, or 0"),
        ("run nowhere.json -m margin --timeout nan", "nan is not a finite number"),
        ("run nowhere.json -m margin --gpus-per-run inf", "inf is not a finite number"),
        ("run nowhere.json -m margin --memory nan", "nan is not a finite number"),
        ("status . --every nan", "nan is not a finite number"),
        ("run nowhere.json -m margin --memory 1e308", "range 0.01<=x<=1000000.0"),
        ("run nowhere.json -m margin --seeds 99999999999999999999", "range 1<=x<=100000"),
        ("tune ladder.json --rung 0 --trials 2147483648", "range 1<=x<=100000"),
        ("ladder build nowhere --null 2147483648", "range 0<=x<=1000000"),
    ],
)
def test_a_value_is_refused_before_anything_is_read(arguments: str, words: str) -> None:
    result = oodml(*arguments.split())
    assert result.exit_code in (1, 2) and words in result.output, result.output
    assert "nowhere" not in result.output.partition("Error:")[2]


@pytest.mark.parametrize("option", ["-o", "--cache", "--weights"])
def test_a_path_without_a_name_is_refused(option: str, tmp_path: Path) -> None:
    result = oodml("features", tmp_path, "-o", tmp_path / "f.npz", option, "")
    assert result.exit_code == 2 and "the name is empty; give one, or ." in result.output


@pytest.mark.parametrize(
    "option", ["--backbone tiny", "--image-size 64", "--precision bf16", "--resize clean-fid"]
)
@pytest.mark.parametrize("command", ["features", "ladder build"])
def test_a_network_for_a_file_of_features_is_refused(
    command: str, option: str, tmp_path: Path
) -> None:
    make_features(6, 3, 4).save(tmp_path / "f.npz")
    call = [*command.split(), tmp_path / "f.npz", "-o", tmp_path / "out"]
    result = oodml(*call, *option.split())
    assert result.exit_code == 2 and f"leave {option.split()[0]} out" in result.output
    assert not (tmp_path / "out").exists()


def test_a_networks_default_holds_for_images_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODML_FEATURES_BACKBONE", "tiny")
    make_features(6, 3, 4).save(tmp_path / "f.npz")
    assert oodml("features", tmp_path / "f.npz", "-o", tmp_path / "out.npz").exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        "run ladder.json -m margin",
        "train ladder.json -m margin --rung 0",
        "tune ladder.json -m margin --rung 0",
        "demo",
    ],
)
@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_an_output_that_cannot_be_written_is_named_before_hours_of_work(
    command: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_ladder(make_features(12, 3, 4), rungs=2, source="nowhere").save(tmp_path / "ladder.json")
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    if kind == "read-only":  # root may write where nobody may
        monkeypatch.setattr(os, "access", lambda place, mode: mode == os.R_OK)
    result = oodml(*command.split(), "-o", "file/deep" if kind == "file" else "new/deep")
    words = "is a file, so file/deep can be no folder" if kind == "file" else "new/deep cannot be"
    assert result.exit_code == 1 and words in result.output, result.output
    assert not (tmp_path / "new").exists()


def test_a_dimension_beyond_any_use_is_refused(tmp_path: Path) -> None:
    build_ladder(make_features(12, 3, 4), rungs=2).save(tmp_path / "l.json")
    result = oodml("run", tmp_path / "l.json", "-m", "margin", "--embedding-dim", 2**31)
    assert result.exit_code == 2 and "at most 65536" in result.output


def test_an_interrupted_command_says_so_by_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("oodml.commands.features.open_features", interrupted)
    result = oodml("features", "pool", "-o", "f.npz")
    assert result.exit_code == 130 and result.output.endswith("Aborted!\n")


@pytest.mark.parametrize(
    "command",
    [
        "features f.npz -o f.npz",
        "ladder build f.npz -o ./f.npz",
        "ladder pair f.npz g.npz -o g.npz",
        "ladder pair f.npz g.npz --save-features f.npz -o new.json",
        "ladder import l.csv -o l.csv",
        "ladder import l.csv --data f.npz -o f.npz",
        "ladder export l.json --format csv -o link.json",
        "dataset check l.csv -o l.csv",
    ],
)
def test_a_file_that_is_read_is_never_written_over(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = make_features(12, 3, 4)
    for name in ("f.npz", "g.npz"):
        features.save(tmp_path / name)
    build_ladder(features, rungs=2).save(tmp_path / "l.json")
    (tmp_path / "link.json").symlink_to("l.json")
    monkeypatch.chdir(tmp_path)
    exported = oodml("ladder", "export", "l.json", "--format", "csv", "-o", "l.csv")
    assert exported.exit_code == 0, exported.output
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    result = oodml(*command.split())
    assert result.exit_code == 2 and "is read by this command" in result.output, result.output
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
