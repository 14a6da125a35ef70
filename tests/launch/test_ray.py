"""A real Ray cluster of two nodes on one machine: a lost node, a killed driver, equal results."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launch.conftest import (
    done_here,
    driver,
    grid,
    grid_of_two,
    make_features,
    metrics,
    wait_for,
)

from oodml.errors import UsageError
from oodml.launch import Cluster, run_grid
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources

cluster_utils = pytest.importorskip("ray.cluster_utils")
STEPS = 400

DRIVE = """
from oodml.launch import Cluster
ladder = Ladder.load(sys.argv[1])
outcome = run_grid(grid(ladder, 400), ladder, Resources(make_features()), Store(sys.argv[2]),
                   launcher="ray", cluster=Cluster(sys.argv[3]))
print(outcome.done, len(outcome.failed), len(outcome.missing))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a second node, one core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


def test_a_lost_node_and_a_killed_driver_change_nothing(
    cluster: Any, ladder: Ladder, tmp_path: Path
) -> None:
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ladder.save(tmp_path / "ladder.json")
    directory = tmp_path / "runs"
    specs, store = grid(ladder, STEPS), Store(directory)
    arguments = (tmp_path / "ladder.json", directory, cluster.address)
    inodes: dict[str, int] = {}

    def done(number: int) -> bool:
        found = store.done_of(spec.id for spec in specs)
        for run in found:
            inode = (store.run_directory(run) / "run.json").stat().st_ino
            assert inodes.setdefault(run, inode) == inode, "a run has ended twice"
        return len(found) >= number

    first = driver(DRIVE, *arguments)
    wait_for(lambda: done(2), 240)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    again = driver(DRIVE, *arguments)
    wait_for(lambda: done(5), 240)
    cluster.remove_node(second, allow_graceful=False)
    output, errors = again.communicate(timeout=240)
    # Ray itself speaks of the lost node on standard output.
    assert output.splitlines()[-1] == f"{len(specs)} 0 0", (output + errors)[-3000:]
    assert done(len(specs))
    assert metrics(directory) == done_here(specs, ladder, tmp_path / "local")
    assert not list(directory.rglob("claim")) and not list(directory.rglob("error.txt"))


def test_every_task_gets_the_features_of_its_model(
    cluster: Any, ladder: Ladder, tmp_path: Path
) -> None:
    ladder.save(tmp_path / "ladder.json")
    code = """
from oodml.launch import Cluster
ladder = Ladder.load(sys.argv[1])
run_grid(grid_of_two(ladder), ladder, two_models(), Store(sys.argv[2]), launcher="ray",
         cluster=Cluster(sys.argv[3]))
"""
    drive = driver(code, tmp_path / "ladder.json", tmp_path / "runs", cluster.address)
    output, errors = drive.communicate(timeout=240)
    local = done_here(grid_of_two(ladder), ladder, tmp_path / "local")
    assert metrics(tmp_path / "runs") == local, (output + errors)[-3000:]


def test_a_run_that_hangs_on_ray_is_recorded_with_its_stack(
    cluster: Any, ladder: Ladder, tmp_path: Path
) -> None:
    ladder.save(tmp_path / "ladder.json")
    code = """
from oodml.launch import Cluster
ladder = Ladder.load(sys.argv[1])
specs = grid(ladder, 10**6)[1:2]
outcome = run_grid(specs, ladder, Resources(make_features()), Store(sys.argv[2]),
                   launcher="ray", cluster=Cluster(sys.argv[3]), timeout=1.0)
print(outcome.failed == (specs[0].id,), Store(sys.argv[2]).error(specs[0].id))
"""
    drive = driver(code, tmp_path / "ladder.json", tmp_path / "runs", cluster.address)
    output, errors = drive.communicate(timeout=240)
    assert "True" in output, (output + errors)[-3000:]
    # On a busy machine the second ends while PyTorch is imported, far below the run's own frames.
    assert "longer than timeout=1 seconds" in output and "most recent call first" in output


def test_no_cluster_at_an_address_is_one_line(ladder: Ladder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no Ray cluster at address=127\.0\.0\.1:1"):
        run_grid(
            grid(ladder), ladder, Resources(make_features()), Store(tmp_path), launcher="ray",
            cluster=Cluster("127.0.0.1:1"),
        )  # fmt: skip
