"""Workers: processes of this machine that do the open runs; their parent replaces the lost."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.launch.grid import POLL_SECONDS, Grid, OnProgress, do_open_runs
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.train.build import Resources
from oodml.train.stopping import stop_requested, stopping_on_signals

# A worker leaves with this code when the store cannot be written; it has said so.
UNWRITABLE = 74
# How long a worker may take to keep its state when it is asked to stop.
GRACE_SECONDS = 30.0
# How long a worker that hangs may take to write down where it stands; a busy machine is slow.
STACK_SECONDS = 10.0
# How many workers in a row may end by themselves before their first run.
_FAILED_STARTS = 5
log = logging.getLogger("oodml")
_ID_BYTES = 32
Array = npt.NDArray[np.float32]


def drain_in_workers(
    grid: Grid, models: Sequence[Resources], store: Store, workers: int, report: OnProgress
) -> None:
    """Do the grid in `workers` processes; one that is killed or hangs is replaced.

    The run of a killed worker is tried again at once, that of a worker that hangs past
    `grid.timeout` in the next call. Raises `DataError` when the store cannot be written.
    """
    with (
        ExitStack() as stack,
        tempfile.TemporaryDirectory(prefix="oodml-stacks-") as stacks,
    ):
        files = [stack.enter_context(shared(each)) for each in models]
        pool = _Pool(grid, files, store, workers, Path(stacks))
        try:
            pool.start()
            while pool.is_working() and not stop_requested():
                report(pool.ended())
                time.sleep(POLL_SECONDS)
                pool.replace_lost()
            report(pool.ended())
        finally:
            pool.stop()
    pool.check()


def _start_fork_server() -> None:
    """Start it with Ctrl-C blocked, which the processes that it forks inherit.

    A terminal sends Ctrl-C to all of its processes; the parent tells its workers to stop by
    SIGTERM. A worker that is just being started cannot block the signal by itself in time.
    """
    # Starting the tracker unblocks Ctrl-C, so it comes first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass
class _Worker:
    """A worker process, its state in shared memory, and the file that it writes its stack to."""

    number: int
    state: WorkerState
    stack: Path
    process: BaseProcess


class _Pool:
    """The workers, and what is done when one of them is gone."""

    def __init__(
        self,
        grid: Grid,
        models: Sequence[SharedResources],
        store: Store,
        workers: int,
        stacks: Path,
    ) -> None:
        self.grid, self.models, self.store, self.stacks = grid, models, store, stacks
        # Its processes are forked off one that has read all modules, which takes seconds.
        self.context = get_context("forkserver")
        self.context.set_forkserver_preload(["oodml.launch.workers"])
        _start_fork_server()
        self.size = workers
        self.workers: list[_Worker] = []
        self.unwritable = False
        self.ended_before = 0
        self.failed_starts = 0

    def start(self) -> None:
        self.workers = [self._new(number) for number in range(self.size)]

    def _new(self, number: int) -> _Worker:
        state = WorkerState(self.context)
        stack = self.stacks / f"{number}.{time.monotonic_ns()}.txt"
        process = self.context.Process(
            target=work,
            args=(
                self.grid,
                self.models,
                self.store.directory,
                state,
                stack,
                (number, self.size),
            ),
            daemon=True,
        )
        process.start()
        return _Worker(number, state, stack, process)

    def is_working(self) -> bool:
        return any(worker.process.is_alive() for worker in self.workers)

    def ended(self) -> int:
        """How many runs the workers have ended so far."""
        return self.ended_before + sum(worker.state.ended for worker in self.workers)

    def replace_lost(self) -> None:
        """End workers that hang, and put new ones in the place of those that were killed."""
        self._replace_dead()
        # Last, for it waits for their stacks while the runs of the dead are free to be taken.
        for worker in filter(self._hangs, self.workers):
            self._end_hanging(worker)
        self._replace_dead()

    def _replace_dead(self) -> None:
        for at, worker in enumerate(self.workers):
            code = worker.process.exitcode
            if code == UNWRITABLE:
                self.unwritable = True
            elif code:
                self._record_end(worker, code)
                self._check_start(worker, code)
                self.ended_before += worker.state.ended
                self.workers[at] = self._new(worker.number)

    def _hangs(self, worker: _Worker) -> bool:
        return 0 < self.grid.timeout < worker.state.seconds and worker.process.is_alive()

    def _end_hanging(self, worker: _Worker) -> None:
        """Kill a worker, its stack kept as the traceback of its run."""
        run_id, pid = worker.state.run_id, worker.process.pid
        if not run_id or pid is None:
            return
        stack = _stack_of(worker, pid)
        worker.process.kill()
        worker.process.join()
        limit = f"the run took longer than timeout={self.grid.timeout:g} seconds"
        worker.state.end()
        # The run may have ended by itself just before.
        if not self.store.is_done(run_id) and self.grid.is_due(run_id, self.store):
            self.store.fail(run_id, f"{limit}; it stood at:\n{stack}{limit}")
            log.error("run %s failed: %s", run_id, limit)

    def _record_end(self, worker: _Worker, code: int) -> None:
        """Note the end of a worker as a failed try of the run that it was at."""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        run_id = worker.state.run_id
        if not run_id:
            return
        what = f"the process that did the run ended with {how}"
        hint = "; it may have run out of memory" if code == -signal.SIGKILL else ""
        self.store.fail(run_id, f"{what}{hint}.", killed=True)
        log.error("run %s: %s%s.", run_id, what, hint)

    def _check_start(self, worker: _Worker, code: int) -> None:
        """Raise `DataError` when workers end again and again before they begin a run."""
        if worker.state.ended or worker.state.run_id:
            self.failed_starts = 0
            return
        self.failed_starts += 1
        # A signal came from outside, an exit code from the worker itself.
        if self.failed_starts > (_FAILED_STARTS if code > 0 else 20 * _FAILED_STARTS):
            raise DataError(
                f"workers end with code {code} before they begin a run; see what they say above, "
                "or use workers=1."
            )

    def stop(self) -> None:
        """Ask all workers to stop, and end those that do not."""
        for worker in self.workers:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def check(self) -> None:
        """Raise `DataError` if a worker could not write."""
        if self.unwritable:
            raise DataError(
                f"{self.store.directory} takes no more writing; what is done is kept: make room "
                "and start again to go on."
            )


def _stack_of(worker: _Worker, pid: int) -> str:
    """Where a worker stands, once it has written it down; what it wrote within some seconds."""
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + STACK_SECONDS
    text = ""
    while time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        before, text = text, worker.stack.read_text() if worker.stack.exists() else ""
        if text and text == before:
            break
    return text


def work(
    grid: Grid,
    models: Sequence[SharedResources],
    directory: Path,
    state: WorkerState,
    stack: Path,
    place: tuple[int, int],
) -> None:
    """What a worker process does; `place` is its number among how many."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    grid.read_plugins()
    store = Store(directory)

    def at(spec: RunSpec | None) -> None:
        if spec is None:
            state.end()
        else:
            state.begin(spec.id)

    with stack.open("w") as file, stopping_on_signals([signal.SIGTERM]):
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)
        try:
            do_open_runs(
                grid,
                [placed(each.open(), *place) for each in models],
                store,
                lambda ended: None,
                at,
            )
        except DataError as error:
            log.error("%s", error)
            sys.exit(UNWRITABLE)


def placed(resources: Resources, number: int, workers: int) -> Resources:
    """The resources for one of several workers: a GPU of its own, or its share of the cores."""
    import torch

    if resources.device.startswith("cuda"):
        return replace(resources, device=f"cuda:{number % torch.cuda.device_count()}")
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // workers))
    return resources


def _end_with_parent() -> None:
    """Leave at once when the parent is gone, however it ended; the claim is then stale."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class WorkerState:
    """One worker's current run, its start time, and how many runs the worker has ended.

    It lies in shared memory without a lock: only the worker writes, and a kill cannot leave it
    locked. `time.monotonic` is one clock for all processes of a machine.
    """

    def __init__(self, context: BaseContext) -> None:
        self._run: Any = context.RawArray("c", _ID_BYTES)
        self._since: Any = context.RawValue("d", 0.0)
        self._ended: Any = context.RawValue("q", 0)

    def begin(self, run_id: str) -> None:
        """Note the run that the worker does now."""
        self._since.value = time.monotonic()
        self._run.value = run_id.encode()

    def end(self) -> None:
        """Note that the run has ended, with or without a result."""
        self._run.value = b""
        self._ended.value += 1

    @property
    def run_id(self) -> str:
        """The id of the run under way, or "" between two runs."""
        return str(self._run.value.decode())

    @property
    def seconds(self) -> float:
        """How long the run under way has taken; 0 between two runs."""
        return time.monotonic() - self._since.value if self.run_id else 0.0

    @property
    def ended(self) -> int:
        """How many runs the worker has ended."""
        return int(self._ended.value)


@dataclass(frozen=True)
class SharedResources:
    """Resources whose arrays lie in files, mapped into memory when they are opened."""

    values: Path
    views: Path | None
    rest: Resources

    def open(self) -> Resources:
        """The resources as they were; a row is read from the disk when it is first touched."""
        views = None if self.views is None else _mapped(self.views)
        return with_arrays(self.rest, _mapped(self.values), views)


def _mapped(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


@contextmanager
def shared(resources: Resources) -> Iterator[SharedResources]:
    """Resources with their arrays in a folder that is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="oodml-") as folder:
        values, views = Path(folder) / "values.npy", None
        np.save(values, resources.features.values)
        if resources.views is not None:
            views = Path(folder) / "views.npy"
            np.save(views, resources.views)
        yield SharedResources(values, views, emptied(resources))


def emptied(resources: Resources) -> Resources:
    """The same resources without their weight: every row of values is the same single number."""
    return with_arrays(resources, np.broadcast_to(np.float32(0), (len(resources.features), 1)))


def with_arrays(resources: Resources, values: Array, views: Array | None = None) -> Resources:
    """The resources with other values (n, C) and cached views (V, n, C) of the same samples."""
    return replace(resources, features=replace(resources.features, values=values), views=views)
