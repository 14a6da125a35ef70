"""Faults, done for real: what is killed, full, hanging or broken loses no run and tears no file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from launch.conftest import done_here, driver, grid, make_features, metrics, wait_for

from oodml.errors import DataError
from oodml.launch import run_grid
from oodml.launch.workers import WorkerState
from oodml.runs.claim import STALE_SECONDS
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources
from oodml.train.plan import plan
from oodml.train.registry import load_plugin

# A driver of the grid in conftest: ladder, directory, workers, steps, whether with reference.
DRIVE = """
checkpoint.SECONDS = 0.02
ladder = Ladder.load(sys.argv[1])
specs = grid(ladder, int(sys.argv[4]), reference=bool(int(sys.argv[5])))
outcome = run_grid(specs, ladder, Resources(make_features()), Store(sys.argv[2]),
                   workers=int(sys.argv[3]), retries=1000)
print(outcome.done, len(outcome.failed), len(outcome.missing), outcome.stopped)
"""


@pytest.fixture
def saved(ladder: Ladder, tmp_path: Path) -> Path:
    ladder.save(tmp_path / "ladder.json")
    return tmp_path / "ladder.json"


def workers_of(parent: int) -> list[int]:
    """The processes that do runs for a driver: children of its fork server."""
    servers = [pid for pid in children(parent) if children(pid)]
    return [pid for server in servers for pid in children(server)]


def children(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def killed_at_random(
    kills: int, specs: list[RunSpec], saved: Path, steps: int, reference: bool = False
) -> Path:
    """Kill `kills` workers of a driver at random moments; the directory, every run of it done."""
    random = np.random.default_rng(0)
    directory = saved.parent / "killed"
    store, inodes = Store(directory), dict[Path, int]()
    left = kills
    while len(store.done_of(spec.id for spec in specs)) < len(specs):
        drive = driver(DRIVE, saved, directory, 2, steps, int(reference))
        while drive.poll() is None and left:
            time.sleep(float(random.uniform(0.0, 0.2)))
            found = workers_of(drive.pid)
            # One that has just ended by itself is no kill.
            with suppress(ProcessLookupError):
                if found:
                    os.kill(int(random.choice(found)), signal.SIGKILL)
                    left -= 1
            for path in (directory / "runs").glob("*/run.json"):
                assert inodes.setdefault(path, path.stat().st_ino) == path.stat().st_ino
        _, errors = drive.communicate(timeout=240)
        assert "Traceback" not in errors, errors
        if left and len(store.done_of(spec.id for spec in specs)) == len(specs):
            # Quicker than the kills: do it again from the beginning.
            for path in (directory / "runs").glob("*/run.json"):
                path.unlink()
            inodes.clear()
    assert left == 0
    return directory


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.long)])
def test_killed_workers_lose_no_run(kills: int, ladder: Ladder, saved: Path) -> None:
    specs = grid(ladder, 60)
    directory = killed_at_random(kills, specs, saved, 60)
    assert metrics(directory) == done_here(specs, ladder, saved.parent / "whole")
    for path in directory.rglob("*"):
        assert path.name not in ("last.pt", "best.pt", "error.txt")
        # A worker that was killed between its record and its claim leaves one that holds nothing.
        assert path.name != "claim" or (path.parent / "run.json").exists()
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            assert [line["epoch"] for line in lines] == list(range(len(lines)))


def test_a_killed_reference_equals_the_undisturbed(ladder: Ladder, saved: Path) -> None:
    specs = [spec for spec in grid(ladder, 30, 1, reference=True) if spec.is_reference]
    directory = killed_at_random(4, specs, saved, 30, reference=True)
    found = {run: own for run, own in metrics(directory).items() if run in {s.id for s in specs}}
    assert found == done_here(specs, ladder, saved.parent / "whole")
    assert not [*directory.rglob("last.pt"), *directory.rglob("best.pt")]


def test_two_drivers_share_the_runs(ladder: Ladder, saved: Path) -> None:
    code = """
ended = []
ladder = Ladder.load(sys.argv[1])
run_grid(grid(ladder), ladder, Resources(make_features()), Store(sys.argv[2]),
         on_progress=ended.append)
print(len(ended) - 1)
"""
    drivers = [driver(code, saved, saved.parent / "both") for _ in range(2)]
    ended = [int(drive.communicate(timeout=240)[0]) for drive in drivers]
    assert sum(ended) == len(grid(ladder))
    assert metrics(saved.parent / "both") == done_here(grid(ladder), ladder, saved.parent / "one")


FOREIGN = """
import os, oodml.runs.claim as claim, threading
claim.socket.gethostname = lambda: "elsewhere"
claim.HEARTBEAT_SECONDS = 0.1
behind = 10_000_000.0
beat = os.utime
claim.os.utime = lambda path: beat(path, (checkpoint.time.time() - behind,) * 2)
held = Store(sys.argv[1]).claim(sys.argv[2])
with held:
    print("held", flush=True)
    threading.Event().wait()
"""


def test_a_worker_whose_clock_is_wrong_keeps_its_run_as_long_as_it_lives(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeats are a hundred days old, its host another one."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("oodml.runs.claim.time", clock)
    spec = grid(ladder)[1]
    directory = tmp_path / "runs"
    other = driver(FOREIGN, directory, spec.id)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    store = Store(directory)
    claim = store.run_directory(spec.id) / "claim"
    for _ in range(4):
        assert store.claim(spec.id) is None
        beat = claim.stat().st_mtime_ns
        wait_for(lambda beat=beat: claim.stat().st_mtime_ns != beat)
        clock.now += 0.9 * STALE_SECONDS
    other.kill()
    other.communicate()
    assert store.claim(spec.id) is None
    clock.now += 0.9 * STALE_SECONDS
    assert store.claim(spec.id) is None
    clock.now += 0.2 * STALE_SECONDS
    assert store.claim(spec.id) is not None


PLUGIN = '''
"""Methods that go wrong, each in its own way."""
import os, pathlib, signal, time
import torch
from oodml.train.registry import method

class Odd(torch.nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act
    def forward(self, embeddings, labels):
        self.act()
        return embeddings.sum() * 0

def raises(): raise ValueError("the loss is odd")
def eats(): torch.empty(1 << 50)
def hangs():
    pathlib.Path(__file__).with_name("hanging").touch()
    time.sleep(10**6)
def dies(): os.kill(os.getpid(), signal.SIGKILL)

for act in (raises, eats, hangs, dies):
    def make(num_classes, embedding_dim, act=act):
        return Odd(act)
    # A function of its own name, so that each is a method of its own.
    make = method(act.__name__, paper="-", source="test")(
        lambda num_classes, embedding_dim, *, _=0, act=act: Odd(act)
    )
'''


@pytest.fixture(scope="module")
def odd_methods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from oodml.train import registry

    registry.all_methods()
    before = dict(registry._REGISTRY)
    path = tmp_path_factory.mktemp("plugin") / "odd.py"
    path.write_text(PLUGIN)
    load_plugin(path)
    yield path
    registry._REGISTRY.clear()
    registry._REGISTRY.update(before)


def test_runs_that_raise_eat_hang_or_die_are_recorded_and_the_others_go_on(
    ladder: Ladder, odd_methods: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"rungs": [0], "steps": 5, "batch_size": 24, "embedding_dim": 8}
    names = ["raises", "eats", "hangs", "dies", "margin", "arcface"]
    specs = plan(ladder, names, [0], **settings)  # type: ignore[arg-type]
    run = {spec.method.name: spec.id for spec in specs}
    store, resources = Store(tmp_path), Resources(make_features())
    hanging = odd_methods.with_name("hanging")

    def seconds(state: WorkerState) -> float:
        """Too long for a run that says that it hangs, no time for all others."""
        return 1e6 if state.run_id == run["hangs"] and hanging.exists() else 0.0

    monkeypatch.setattr(WorkerState, "seconds", property(seconds))

    def tried(*chosen: str) -> dict[str, int]:
        outcome = run_grid(
            [spec for spec in specs if spec.method.name in chosen], ladder, resources, store,
            workers=2, retries=1, timeout=20, plugins=[odd_methods],
        )  # fmt: skip
        assert set(outcome.failed) == {run[name] for name in chosen if name in names[:4]}
        assert not outcome.missing
        return {name: store.tries(run[name]).count for name in chosen}

    # A killed worker's run is tried again at once, the others' in the next call. The second worker
    # may take it before its first end is noted, which makes one try more.
    counts = tried(*names)
    killed = counts.pop("dies")
    assert counts == {"raises": 1, "eats": 1, "hangs": 1, "margin": 0, "arcface": 0}
    assert killed in (2, 3)
    assert {record.spec.method.name for record in store.records()} == {"margin", "arcface"}
    errors = {name: store.error(run[name]) or "" for name in names[:4]}
    assert "ValueError: the loss is odd" in errors["raises"] and "Traceback" in errors["raises"]
    assert "allocate" in errors["eats"]
    assert "timeout=20 seconds" in errors["hangs"] and "in hangs" in errors["hangs"]
    assert "signal 9; it may have run out of memory" in errors["dies"]
    assert tried("raises", "dies") == {"raises": 2, "dies": killed}
    assert (store.error(run["raises"]) or "").count("== try") == 2
    # Given up.
    assert tried("raises", "dies") == {"raises": 2, "dies": killed}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of 256 KiB takes a right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_clear_line_and_what_is_done_stays(
    workers: int, ladder: Ladder, small_disk: Path, tmp_path: Path
) -> None:
    specs, resources = grid(ladder), Resources(make_features())
    store = Store(small_disk / "runs")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(160 * 1024))
    with pytest.raises(DataError, match=r"takes no more writing.*start again to go on") as error:
        run_grid(specs, ladder, resources, store, workers=workers)
    assert "\n" not in str(error.value)
    before = metrics(store.directory)
    assert 0 < len(before) < len(specs)
    ballast.unlink()
    assert run_grid(specs, ladder, resources, store, workers=workers).done == len(specs)
    whole = done_here(specs, ladder, tmp_path / "whole")
    assert metrics(store.directory) == whole
    assert before.items() <= whole.items()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_ctrl_c_keeps_the_state_and_says_what_is_left(
    workers: int, ladder: Ladder, saved: Path
) -> None:
    steps = 1500
    directory = saved.parent / "stopped"
    code = DRIVE.replace("checkpoint.SECONDS = 0.02", "")
    drive = driver(code, saved, directory, workers, steps, 0)
    wait_for(lambda: len(list(directory.glob("runs/*/epochs.jsonl"))) > 1)
    os.killpg(drive.pid, signal.SIGINT)
    output, errors = drive.communicate(timeout=240)
    done, failed, missing, stopped = output.split()
    assert (int(done) + int(missing), failed, stopped) == (15, "0", "True"), errors
    assert "Traceback" not in errors and int(missing) > 0
    # No checkpoint was due yet: what is there was kept because of the signal.
    assert list(directory.glob("runs/*/last.pt"))
    assert not list(directory.glob("runs/*/claim"))


def test_half_of_a_store_is_readable_and_broken_records_are_named(
    ladder: Ladder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    specs = grid(ladder)
    whole = done_here(specs, ladder, tmp_path / "runs")
    paths = sorted((tmp_path / "runs" / "runs").glob("*/run.json"))
    paths[0].write_bytes(paths[0].read_bytes()[:100])
    paths[1].unlink()
    (paths[2].parent / "epochs.jsonl").unlink(missing_ok=True)
    grids = next((tmp_path / "runs" / "grids").glob("*.json"))
    grids.write_text(grids.read_text()[:-20])
    store = Store(tmp_path / "runs")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert {record.id for record in store.records()} == whole.keys() - {
        path.parent.name for path in paths[:2]
    }
    assert paths[0].parent.name in caplog.text
    assert store.asked_for() == {} and grids.name in caplog.text
    # Reading writes nothing, so that a read-only store can be read.
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before
