"""Grids for the tests of launchers, and drivers that do them in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from conftest import make_features, turned

from oodml.launch import GridOutcome, run_grid
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources
from oodml.train.plan import plan

METHODS = ("frozen", "margin", "arcface")


def grid(ladder: Ladder, steps: int = 15, seeds: int = 2, **settings: object) -> list[RunSpec]:
    chosen = {"steps": steps, "batch_size": 24, "embedding_dim": 8, **settings}
    return plan(ladder, METHODS, range(seeds), **chosen)  # type: ignore[arg-type]


def two_models() -> list[Resources]:
    """The features of the ladder's own network and of another."""
    own = make_features()
    return [Resources(own), Resources(turned(own))]


def grid_of_two(ladder: Ladder) -> list[RunSpec]:
    return grid(ladder, seeds=1, backbone=[each.features.source for each in two_models()])


def metrics(directory: Path) -> dict[str, dict[str, float]]:
    return {record.id: record.metrics for record in Store(directory).records()}


def done_here(specs: list[RunSpec], ladder: Ladder, directory: Path) -> dict[str, dict[str, float]]:
    """The metrics of the runs, done one after the other in this process."""
    outcome = run_grid(specs, ladder, two_models(), Store(directory))
    assert outcome.done == len(specs)
    return metrics(directory)


def driver(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs `code` after the imports of this module; its words are kept.

    `sys.argv[1:]` are the arguments. Worker processes read its file again, so `code` stands under
    the usual guard.
    """
    folder = Path(str(arguments[0])).parent
    script = folder / f"driver{time.monotonic_ns()}.py"
    lines = "\n".join(f"    {line}" for line in code.strip().splitlines())
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from launch.conftest import *\nfrom oodml.train import checkpoint\n"
        f"if __name__ == '__main__':\n{lines}\n"
    )
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: object, seconds: float = 240.0) -> None:
    """Wait until `condition()` holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


__all__ = [
    "GridOutcome", "Ladder", "Path", "Resources", "Store", "done_here", "driver", "grid",
    "grid_of_two", "make_features", "metrics", "plan", "run_grid", "two_models", "wait_for",
]  # fmt: skip
