"""The same grid twice on one machine: the ladder byte for byte, all that was measured bit for bit.

The second time in two workers, with other seeds of Python's hashes, from another directory, of
images that were written in another order.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from determinism_grid import METHODS, repeat

SCRIPT = Path(__file__).with_name("determinism_grid.py")


def copied(images: Path, folder: Path) -> Path:
    """The same images, written in another order, in a folder elsewhere."""
    paths = sorted(images.rglob("*.png"))
    random.Random(1).shuffle(paths)
    for path in paths:
        copy = folder / images.name / path.relative_to(images)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return folder / images.name


def started(images: Path, results: Path, workers: int, hash_seed: int) -> subprocess.Popen[bytes]:
    results.mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    arguments = [sys.executable, str(SCRIPT), str(images), str(results), str(workers)]
    return subprocess.Popen(arguments, env=environment, cwd=results)


def measured(results: Path) -> dict[str, dict[str, Any]]:
    """What stands in the records, as text: every digit counts. Without times and versions."""
    records = {path.parent.name: json.loads(path.read_text()) for path in
               (results / "runs").glob("*/run.json")}  # fmt: skip
    for record in records.values():
        del record["seconds"], record["environment"]
        record["training"] = {
            key: value for key, value in record["training"].items() if "seconds" not in key
        }
    return records


@pytest.mark.long
def test_a_grid_gives_the_same_bits_in_other_processes(image_folder: Path, tmp_path: Path) -> None:
    there = started(
        copied(image_folder, tmp_path / "elsewhere"), tmp_path / "there", workers=2, hash_seed=1
    )
    here = tmp_path / "here"
    here.mkdir()
    repeat(image_folder, here, workers=1)
    assert there.wait() == 0
    assert (tmp_path / "there" / "ladder.json").read_bytes() == (here / "ladder.json").read_bytes()
    once, again = measured(here), measured(tmp_path / "there")
    assert len(once) == 2 * len(METHODS) + 1
    assert once == again
