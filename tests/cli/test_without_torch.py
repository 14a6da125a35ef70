"""What only names, plans or counts runs needs no torch: it answers at once, in little memory."""

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
    ["list", "methods"],
    ["run", ladder, "-m", "all", "--dry-run", "-o", store],
    ["run", ladder, "-m", "margin:beta=0.7", "--filter", "rung=0", "--dry-run", "-o", store],
    ["status", store],
)
for command in commands:
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0 or command[0] == "status", result.output
    heavy = [name for name in ("torch", "faiss", "matplotlib", "sklearn") if name in sys.modules]
    assert not heavy, f"{command} imports {heavy}"
import oodml.train.losses.hinges
assert "torch" in sys.modules
"""


def test_naming_planning_and_counting_runs_import_no_torch(tmp_path: Path, ladder: Ladder) -> None:
    ladder.save(tmp_path / "ladder.json")
    command = [sys.executable, "-c", _SCRIPT, tmp_path / "ladder.json", tmp_path / "store"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
