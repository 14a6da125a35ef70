"""What reads or shows results needs no torch: it answers at once, in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from oodml.splits.ladder import Ladder

_SCRIPT = """
import sys
from click.testing import CliRunner
from oodml.cli import main

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
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
