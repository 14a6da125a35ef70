"""The command line as a whole: help, config files, exit codes, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from commands.conftest import NETWORK, oodml, refused

from oodml.cli import main, with_flags
from oodml.splits.ladder import Ladder


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    with click.Context(group) as ctx:
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            assert command is not None, name
            found[" ".join((*path, name))] = command
            if isinstance(command, click.Group):
                found |= every_command(command, (*path, name))
    return found


COMMANDS = every_command(main)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    result = oodml(*name.split(), "-h")
    assert result.exit_code == 0 and "Usage: oodml" in result.output
    options = [each for each in COMMANDS[name].params if isinstance(each, click.Option)]
    for option in options:
        assert option.help and option.help.endswith("."), option.opts


@pytest.mark.parametrize("group", [[], ["ladder"], ["dataset"]])
def test_no_summary_is_cut(group: list[str]) -> None:
    assert "..." not in oodml(*group, "-h").output.partition("Commands:")[2]


def test_an_unknown_command_gets_the_closest_name() -> None:
    assert "Did you mean 'table'" in refused(2, "tabel", "x")
    assert "Did you mean '--seeds'" in refused(2, "run", "x.json", "--seed", "1")
    assert "Did you mean 'check'" in refused(2, "dataset", "chek")
    assert "Did you mean 'show'" in refused(2, "ladder", "shwo")


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        ("run", "batch_size=1 is out of range", "--train-batch-size 1 is out of range"),
        ("run", "few_shot adapts; give train='all'.", "--few-shot adapts; give --train all."),
        ("run", "margin:steps=3,decay=1 of steps", "margin:steps=3,decay=1 of steps"),
        ("features", "broken; skip_broken=True", "broken; --skip-broken"),
        ("features", "no a/skip_broken, batch_size.npz", "no a/skip_broken, batch_size.npz"),
        ("status", "give train='all'", "give train='all'"),
    ],
)  # fmt: skip
def test_arguments_of_the_library_read_as_options(command: str, message: str, shown: str) -> None:
    assert with_flags(message, COMMANDS[command]) == shown


def test_an_interrupted_command_has_the_exit_code_of_ctrl_c(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("oodml.commands.features.open_features", interrupted)
    result = oodml("features", "pool", "-o", "f.npz")
    assert result.exit_code == 130 and result.output.endswith("Aborted!\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ladder.build]\nrung = 3\n", "Did you mean 'rungs'"),
        ("[lader]\n", "Did you mean 'ladder'"),
        ("[ladder.build]\nrungs = 1\n", "x>=2"),
        ("ladder = 3\n", "[ladder]"),
        ("[[", "TOML"),
    ],
)
def test_a_config_file_is_checked(
    text: str, words: str, tmp_path: Path, image_folder: Path
) -> None:
    (tmp_path / "oodml.toml").write_text(text)
    call = ("--config", tmp_path / "oodml.toml", "ladder", "build", image_folder)
    assert words in refused(2, *call, *NETWORK, "--cache", tmp_path / "cache")


_SCRIPT = """
import sys
from click.testing import CliRunner
from oodml.cli import main, with_flags

ladder, store = sys.argv[1:]
commands = (
    ["--help"],
    ["run", "--help"],
    ["ladder", "show", ladder],
    ["status", store],
    ["table", store],
    ["plot", store, "-o", store],
)
for command in commands:
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0 or command[0] in ("status", "table", "plot"), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "torch" not in sys.modules, f"{command} imports torch"
CliRunner().invoke(main, ["list", "methods"])
assert "torch" in sys.modules
"""


def test_commands_that_show_what_is_there_import_no_torch(tmp_path: Path, ladder: Ladder) -> None:
    ladder.save(tmp_path / "ladder.json")
    command = [sys.executable, "-c", _SCRIPT, tmp_path / "ladder.json", tmp_path / "store"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
