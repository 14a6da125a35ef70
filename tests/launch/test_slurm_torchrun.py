"""A Slurm array and torchrun: several processes start the same command on one results directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_features
from launch.conftest import metrics, wait_for

from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder

ROOT = Path(__file__).parents[2]
SETTINGS = ["--steps", "20", "--train-batch-size", "24", "--embedding-dim", "8"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features and a ladder that remembers them, and the results of one process."""
    folder = tmp_path_factory.mktemp("cluster")
    features = make_features()
    features.save(folder / "features.npz")
    build_ladder(features, rungs=2, source=str(folder / "features.npz")).save(
        folder / "ladder.json"
    )
    arguments = [*command_of(folder, "alone"), "--workers", "1"]
    subprocess.run([sys.executable, "-m", *arguments], check=True, capture_output=True)
    return folder


def command_of(folder: Path, results: str) -> list[str]:
    return [
        "oodml", "run", str(folder / "ladder.json"), "-m", "margin", "-m", "arcface",
        "-m", "frozen", "--seeds", "2", *SETTINGS, "-o", str(folder / results),
    ]  # fmt: skip


def test_the_tasks_of_a_slurm_array_share_the_grid(place: Path) -> None:
    """The script is started three times at once, as Slurm starts the tasks of an array."""
    script = ROOT / "examples" / "slurm_array.sh"
    # What `oodml` is on the path of a user.
    binaries = place / "bin"
    binaries.mkdir()
    (binaries / "oodml").write_text(f'#!/bin/sh\nexec {sys.executable} -m oodml "$@"\n')
    (binaries / "oodml").chmod(0o755)
    tasks = [
        subprocess.Popen(
            [script, *command_of(place, "array")[2:]],
            env={
                **os.environ,
                "PATH": f"{binaries}:{os.environ['PATH']}",
                "SLURM_ARRAY_TASK_ID": str(task),
                "SLURM_CPUS_PER_TASK": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for task in range(3)
    ]
    outputs = [task.communicate(timeout=240)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0, 0], outputs
    assert all("10 runs done" in output for output in outputs)
    assert metrics(place / "array") == metrics(place / "alone")


def test_ctrl_c_says_what_is_left_and_the_next_start_goes_on(place: Path) -> None:
    command = [sys.executable, "-m", *command_of(place, "stopped"), "--workers", "2"]
    first = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: any((place / "stopped").glob("runs/*/claim")))
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=240)
    assert first.returncode == 130 and "Traceback" not in errors
    assert re.search(r"stopped: \d+ runs done, \d+ left, .*start it again to go on", errors)
    subprocess.run(command, check=True, capture_output=True)
    assert metrics(place / "stopped") == metrics(place / "alone")


def test_torchrun_does_every_run_with_all_its_processes(place: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            "-m", *command_of(place, "together"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("10 runs done") == 1, "only the first process speaks"
    alone, together = metrics(place / "alone"), metrics(place / "together")
    assert alone.keys() == together.keys()
    for run, values in alone.items():
        for name in ("recall_at_1", "mean_average_precision_at_r"):
            assert together[run][name] == pytest.approx(values[name], abs=0.02), (run, name)
    # The two halves of a batch are added up in another order, so a bit may differ; a run without
    # training has none.
    frozen = [r for r in Store(place / "alone").records() if r.spec.method.name == "frozen"]
    assert all(together[record.id] == record.metrics for record in frozen)
