"""drain: claim and do the runs of a grid until none is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from oodml.launch.grid import Grid, OnProgress, do_run, raise_if_unwritable
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.train.build import Resources
from oodml.train.stopping import StoppedError, stop_requested

POLL_SECONDS = 0.2
OnRun = Callable[[RunSpec | None], object]


def drain(
    grid: Grid,
    resources: Resources,
    store: Store,
    report: OnProgress,
    at: OnRun = lambda spec: None,
) -> None:
    """Do the runs that no other process holds; then wait for those that others do.

    `report` hears how many runs this process has ended, `at` which run it begins, and None when
    it has ended. Returns early when a stop was asked for. Raises `DataError` when the store cannot
    be written.
    """
    ended = 0
    left = list(grid.specs)
    while left and not stop_requested():
        held: list[RunSpec] = []
        for spec in left:
            try:
                took = _do_if_free(spec, grid, resources, store, at)
            except StoppedError:
                return
            except OSError as error:
                raise_if_unwritable(error, store)
                raise
            if took is None:
                held.append(spec)
            ended += bool(took)
            if took:
                report(ended)
            if stop_requested():
                return
        left = held
        if held:
            time.sleep(POLL_SECONDS)


def _do_if_free(
    spec: RunSpec, grid: Grid, resources: Resources, store: Store, at: OnRun
) -> bool | None:
    """Whether the run was done here; None when another process holds it."""
    if store.is_done(spec.id) or not grid.is_due(spec.id, store):
        return False
    claim = store.claim(spec.id)
    if claim is None:
        return None
    with claim:
        at(spec)
        do_run(spec, grid, resources, store)
        at(None)
    return True
