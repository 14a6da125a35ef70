"""Grids: several workers equal one, and a grid that was killed equals one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from launch.conftest import done_here, grid, grid_of_two, make_features, metrics, two_models

from oodml.errors import UsageError
from oodml.features.features import Features
from oodml.launch import run_grid
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources
from oodml.train.plan import plan


@pytest.fixture(scope="module")
def one_worker(
    features: Features, ladder: Ladder, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, float]]:
    directory = tmp_path_factory.mktemp("one")
    outcome = run_grid(grid(ladder), ladder, Resources(features), Store(directory))
    assert (outcome.done, outcome.failed, outcome.missing) == (15, (), ())
    return metrics(directory)


def test_two_workers_equal_one(
    features: Features,
    ladder: Ladder,
    one_worker: dict[str, dict[str, float]],
    tmp_path: Path,
) -> None:
    seen: list[int] = []
    outcome = run_grid(
        grid(ladder), ladder, Resources(features), Store(tmp_path), workers=2,
        on_progress=seen.append,
    )  # fmt: skip
    assert outcome.done == 15 and seen[-1] == 15
    assert metrics(tmp_path) == one_worker


def test_two_workers_hand_every_run_the_features_of_its_model(
    ladder: Ladder, tmp_path: Path
) -> None:
    specs = grid_of_two(ladder)
    outcome = run_grid(specs, ladder, two_models(), Store(tmp_path / "two"), workers=2)
    assert outcome.done == len(specs)
    assert metrics(tmp_path / "two") == done_here(specs, ladder, tmp_path / "one")


def test_what_is_done_is_not_done_again(features: Features, ladder: Ladder, tmp_path: Path) -> None:
    store = Store(tmp_path)
    specs = grid(ladder)[:2]
    run_grid(specs, ladder, Resources(features), store)
    path = store.run_directory(specs[0].id) / "run.json"
    before = path.stat().st_mtime_ns
    run_grid(specs, ladder, Resources(features), store)
    assert path.stat().st_mtime_ns == before


def test_a_device_that_is_not_here_is_refused_before_anything_is_noted(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    for workers in (1, 2):
        with pytest.raises(UsageError, match="device 'cuda:99' cannot be used here"):
            resources = Resources(features, device="cuda:99")
            run_grid(grid(ladder), ladder, resources, Store(tmp_path / "runs"), workers=workers)
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails_keeps_its_traceback_and_the_others_go_on(
    features: Features, ladder: Ladder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    good = grid(ladder)[0]
    bad = plan(ladder, ["margin"], [0], rungs=[0], steps=3, batch_size=4)[0]
    outcome = run_grid([bad, good], ladder, Resources(features), store)
    assert (outcome.done, outcome.failed) == (1, (bad.id,))
    assert "fewer than 2 classes" in (store.error(bad.id) or "")
    assert bad.id in caplog.text
    assert not store.is_done(bad.id)


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from launch.conftest import grid, make_features
from oodml.launch import run_grid
from oodml.splits.ladder import Ladder
from oodml.runs.store import Store
from oodml.train import checkpoint
from oodml.train.build import Resources
checkpoint.SECONDS = 0.02
ladder = Ladder.load(sys.argv[2])
run_grid(grid(ladder, 60), ladder, Resources(make_features()), Store(sys.argv[3]))
"""


@pytest.mark.long
def test_a_grid_killed_at_any_moment_ends_like_one_that_was_not(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    specs = grid(ladder, 60)
    run_grid(specs, ladder, Resources(features), Store(tmp_path / "whole"))
    ladder.save(tmp_path / "ladder.json")
    store = Store(tmp_path / "killed")
    tests = Path(__file__).parents[1]
    arguments = [str(tests), str(tmp_path / "ladder.json"), str(store.directory)]
    random = np.random.default_rng(0)
    kills = 0
    while sum(store.is_done(spec.id) for spec in specs) < len(specs):
        child = subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments])
        begun = time.monotonic()
        runs = store.directory / "runs"
        known = len(list(runs.glob("*"))) if runs.exists() else 0
        # Imports take seconds; the moment counts from the first run that this process begins.
        while child.poll() is None and time.monotonic() - begun < 60:
            if runs.exists() and len(list(runs.glob("*"))) > known:
                break
            time.sleep(0.002)
        if kills < 3:
            time.sleep(float(random.uniform(0, 0.25)))
            os.kill(child.pid, signal.SIGKILL) if child.poll() is None else None
            kills += 1
        child.wait()
    assert kills == 3
    assert metrics(store.directory) == metrics(tmp_path / "whole")
    leftovers = [p for p in store.directory.rglob("*") if p.name in ("last.pt", "error.txt")]
    assert not leftovers


def test_the_terminals_ctrl_c_does_not_reach_the_workers() -> None:
    code = (
        "from multiprocessing import forkserver\n"
        "from oodml.launch.workers import _start_fork_server\n"
        "_start_fork_server()\n"
        "print(open(f'/proc/{forkserver._forkserver._forkserver_pid}/status').read())"
    )
    status = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    blocked = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    assert int(blocked, 16) & 1 << (signal.SIGINT - 1)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    features = make_features(classes=40, per_class=20)
    ladder = build_ladder(features, rungs=2)
    ladder.save(tmp_path / "ladder.json")
    features.save(tmp_path / "features.npz")
    script = (
        "import sys\n"
        "from oodml.features.features import Features\n"
        "from oodml.launch import run_grid\n"
        "from oodml.splits.ladder import Ladder\n"
        "from oodml.runs.store import Store\n"
        "from oodml.train.plan import plan\n"
        "from oodml.train.build import Resources\n"
        "if __name__ == '__main__':\n"
        "    ladder = Ladder.load(sys.argv[1] + '/ladder.json')\n"
        "    specs = plan(ladder, ['margin'], range(2), steps=10**6)\n"
        "    resources = Resources(Features.load(sys.argv[1] + '/features.npz'))\n"
        "    run_grid(specs, ladder, resources, Store(sys.argv[1] + '/runs'), workers=2)\n"
    )
    (tmp_path / "grid.py").write_text(script)
    parent = subprocess.Popen([sys.executable, tmp_path / "grid.py", tmp_path])
    claims: list[Path] = []
    deadline = time.monotonic() + 300
    while len(claims) < 2 and time.monotonic() < deadline:
        claims = list((tmp_path / "runs").rglob("claim"))
        time.sleep(0.05)
    assert len(claims) == 2
    parent.kill()
    parent.wait()
    store = Store(tmp_path / "runs")
    held = [claim.parent.name for claim in claims]
    while held and time.monotonic() < deadline:
        held = [run for run in held if store.claim(run) is None]
        time.sleep(0.05)
    assert not held
