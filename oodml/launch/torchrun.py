"""Runs done by the processes of torchrun together, each on its share of every batch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from oodml.errors import UsageError
from oodml.launch.grid import POLL_SECONDS, Grid, OnProgress, do_run
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.train.build import Resources
from oodml.train.distributed import rank
from oodml.train.stopping import StoppedError, request_stop, stop_requested

# The first process may wait for runs that others hold, and the rest wait with it.
_PATIENCE = timedelta(days=30)


def drain_together(
    grid: Grid, models: Sequence[Resources], store: Store, report: OnProgress
) -> None:
    """Do the runs of a grid with all processes of torchrun; the first one claims and writes.

    Raises `UsageError` outside torchrun.
    """
    if "WORLD_SIZE" not in os.environ:
        raise UsageError("start it as `torchrun --nproc-per-node=N -m oodml run ...`.")
    grid.read_plugins()
    with _processes(models[0].device) as (device, words):
        models = [replace(each, device=device) for each in models]
        for ended, spec in enumerate(_claimed(grid, store, words), 1):
            _run(spec, grid, models, store)
            report(ended)


def _run(spec: RunSpec, grid: Grid, models: Sequence[Resources], store: Store) -> None:
    """One run; what a process other than the first would write goes nowhere."""
    try:
        do_run(spec, grid, models, store if rank() == 0 else _Silent(store.directory))
    except StoppedError:
        # All processes stop at the same step, also those that heard no signal.
        request_stop()


class _Silent(Store):
    """A store that keeps nothing: the first process writes the record of all."""

    def finish(self, record: Any) -> None:
        """Leave it to the first process."""

    def fail(self, run_id: str, traceback: str, *, killed: bool = False) -> None:
        """Leave it to the first process."""


def _claimed(grid: Grid, store: Store, words: distributed.ProcessGroup) -> Iterator[RunSpec]:
    """The runs that the first process claims, in every process, each held until the next one."""
    if rank():
        while (at := _told(-1, words)) >= 0:
            yield grid.specs[at]
        return
    left = list(range(len(grid.specs)))
    try:
        while left and not stop_requested():
            held = []
            for at in left:
                spec = grid.specs[at]
                if store.is_done(spec.id) or not grid.is_due(spec.id, store):
                    continue
                claim = store.claim(spec.id)
                if claim is None:
                    held.append(at)
                    continue
                with claim:
                    _told(at, words)
                    yield spec
                if stop_requested():
                    break
            left = held
            if held:
                time.sleep(POLL_SECONDS)
    finally:
        _told(-1, words)


def _told(at: int, words: distributed.ProcessGroup) -> int:
    """What the first process says, in every process."""
    said = [at]
    distributed.broadcast_object_list(said, src=0, group=words)
    return int(said[0])


@contextmanager
def _processes(device: str) -> Iterator[tuple[str, distributed.ProcessGroup]]:
    """This process's device, and a group for words beside the group for gradients."""
    cuda = device.startswith("cuda")
    if cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        words: Any = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        yield device, words
    finally:
        distributed.destroy_process_group()
