"""Runs on a Ray cluster: one task a run, the store on a file system that all nodes share."""

from __future__ import annotations

import faulthandler
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from oodml.errors import DataError, UsageError
from oodml.launch.grid import POLL_SECONDS, Grid, OnProgress, do_run
from oodml.launch.workers import Array, emptied, with_arrays
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.train.build import Resources, position_of
from oodml.train.stopping import stop_requested

# Tasks that wait in Ray's queue beyond those that run.
_QUEUE = 8
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what one run takes of it: CPU cores and GPUs.

    `address` "" starts one on this machine, "auto" finds one.
    """

    address: str = ""
    cpus: int = 1
    gpus: float = 0.0


def drain_on_ray(
    grid: Grid, models: Sequence[Resources], store: Store, cluster: Cluster, report: OnProgress
) -> None:
    """Do the grid as Ray tasks; the driver may be killed and started again.

    The features go through Ray's object store; the results directory, images and plugins must lie
    where all nodes see them. The run of a lost node or a killed worker is tried again elsewhere.
    Raises `UsageError` without Ray or without a cluster at the address, and `DataError` when the
    store cannot be written.
    """
    ray = _ray()
    directory = store.directory.resolve()
    grid = replace(grid, plugins=[path.resolve() for path in grid.plugins])
    with _connected(ray, cluster.address):
        task = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=0)(do_task)
        held = [
            [*map(ray.put, (emptied(each), each.features.values, each.views))] for each in models
        ]
        shared = [ray.put(grid), ray.put(cluster), directory]

        def submit(spec: RunSpec) -> Any:
            return task.remote(spec, *shared, *held[position_of(spec.model, models)])

        _Driver(ray, submit, grid, store).drain(report)


class _Driver:
    """Submits runs, a few more than the cluster does at once, and collects how they ended."""

    def __init__(
        self, ray: ModuleType, submit: Callable[[RunSpec], Any], grid: Grid, store: Store
    ) -> None:
        self.ray, self.submit = ray, submit
        self.grid, self.store = grid, store
        self.pending: dict[Any, RunSpec] = {}
        self.ended = 0

    def drain(self, report: OnProgress) -> None:
        """Do all runs that are due; returns early when a stop was asked for."""
        waiting = [spec for spec in self.grid.specs if not self.store.is_done(spec.id)][::-1]
        while (waiting or self.pending) and not stop_requested():
            while waiting and len(self.pending) < self._room():
                self._submit(waiting.pop())
            again = self._collect()
            waiting[:0] = again
            report(self.ended)
            if again and len(again) == len(waiting) and not self.pending:
                time.sleep(POLL_SECONDS)
        for reference in self.pending:
            self.ray.cancel(reference)

    def _room(self) -> int:
        return int(self.ray.cluster_resources().get("CPU", 1)) + _QUEUE

    def _submit(self, spec: RunSpec) -> None:
        if not self.store.is_done(spec.id) and self.grid.is_due(spec.id, self.store):
            self.pending[self.submit(spec)] = spec

    def _collect(self) -> list[RunSpec]:
        """Take what has ended; the runs that must be handed out again."""
        if not self.pending:
            return []
        ready, _ = self.ray.wait(list(self.pending), timeout=POLL_SECONDS)
        again = []
        for reference in ready:
            spec = self.pending.pop(reference)
            if self._ended(reference, spec):
                self.ended += 1
            else:
                again.append(spec)
        return again

    def _ended(self, reference: Any, spec: RunSpec) -> bool:
        """Whether the run needs no further task."""
        errors = self.ray.exceptions
        try:
            return bool(self.ray.get(reference))
        except errors.RayTaskError as error:
            raise DataError(str(error.cause)) from None
        except errors.RayError as error:
            if self.store.is_done(spec.id):
                return True
            if not self._has_timed_out(spec):
                what = f"the Ray worker that did the run was lost ({type(error).__name__})."
                self.store.fail(spec.id, what, killed=True)
            return not self.grid.is_due(spec.id, self.store)

    def _has_timed_out(self, spec: RunSpec) -> bool:
        tries = self.store.tries(spec.id)
        return not tries.killed and tries.count > self.grid.failed_before.get(spec.id, 0)


def do_task(
    spec: RunSpec,
    grid: Grid,
    cluster: Cluster,
    directory: Path,
    resources: Resources,
    values: Array,
    views: Array | None,
) -> bool:
    """One run in a Ray worker; False when another process holds it.

    `values` is (n, d), `views` (v, n, d).
    """
    torch.set_num_threads(cluster.cpus)
    if cluster.gpus:
        resources = replace(resources, device="cuda")
    grid.read_plugins()
    store = Store(directory)
    if store.is_done(spec.id) or not grid.is_due(spec.id, store):
        return True
    claim = store.claim(spec.id)
    if claim is None:
        return False
    with claim, _limit(spec, grid, store):
        do_run(spec, grid, [with_arrays(resources, values, views)], store)
    return True


@contextmanager
def _limit(spec: RunSpec, grid: Grid, store: Store) -> Iterator[None]:
    """End this process when the run takes too long, its stack kept as the run's traceback."""

    def expire() -> None:
        limit = f"the run took longer than timeout={grid.timeout:g} seconds"
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file=file, all_threads=True)
            file.seek(0)
            store.fail(spec.id, f"{limit}; it stood at:\n{file.read()}{limit}")
        os._exit(1)

    timer = threading.Timer(grid.timeout, expire)
    timer.daemon = True
    if grid.timeout:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _ray() -> ModuleType:
    # Ray reports its use to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("launcher='ray' needs Ray; type: pip install 'oodml[ray]'") from None
    found: ModuleType = ray
    return found


def _check_reachable(address: str) -> None:
    """`UsageError` where nobody answers; Ray itself would go on asking for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"no Ray cluster at address={address} ({error.strerror or error}); start one with "
            "`ray start --head`, or leave address out."
        ) from None


@contextmanager
def _connected(ray: ModuleType, address: str) -> Iterator[None]:
    """A connection to the cluster, closed at the end if it was opened here."""
    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            logging_level="WARNING",
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise UsageError(f"no Ray cluster at address={address} ({first}).") from None
    try:
        yield
    finally:
        ray.shutdown()
