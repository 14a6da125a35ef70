"""run_grid: the runs of a grid, done here, in workers, under torchrun or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from oodml.device import usable_device
from oodml.errors import unknown_name
from oodml.launch.grid import RETRIES, Grid, GridOutcome, OnProgress, do_open_runs, outcome_of
from oodml.launch.ray import Cluster, drain_on_ray
from oodml.launch.torchrun import drain_together
from oodml.launch.workers import drain_in_workers
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources
from oodml.train.stopping import stop_requested, stopping_on_signals
from oodml.train.tracking import check_tracker

LAUNCHERS = ("local", "ray", "torchrun")


def run_grid(
    specs: Sequence[RunSpec],
    ladder: Ladder,
    resources: Resources | Sequence[Resources],
    store: Store,
    *,
    launcher: str = "local",
    workers: int = 1,
    cluster: Cluster | None = None,
    plugins: Sequence[Path] = (),
    keep_embeddings: Container[str] = (),
    keep_pair_weights: bool = False,
    retries: int = RETRIES,
    timeout: float = 0.0,
    track: str = "",
    on_progress: OnProgress | None = None,
) -> GridOutcome:
    """Do the runs of `specs` that the store does not hold yet.

    `resources` are those of the model, or of every model that the runs name; all are on one device.

    Several calls, from several processes or machines, may share a store: each run is done once.
    A run that fails leaves its traceback in the store and is tried again by the next call, until
    it has failed more than `retries` times; one that takes longer than `timeout` seconds (0: any
    time) has failed. `launcher` is "local" for `workers` processes of this machine (one, without
    `timeout`, is this process), "ray" for a `cluster`, "torchrun" for the processes that torchrun
    has started, which do every run together. `plugins` are the files of the user's own methods,
    which every worker reads; `keep_embeddings` holds the ids of runs whose test embeddings are
    kept in their folders, as are the pair weights of every run with `keep_pair_weights`; `track`
    names a tracker; `on_progress` is called with the number of finished runs now and then. Ctrl-C
    and SIGTERM end the call early with the state of every run kept.
    Raises `DataError` when the store cannot be written, `UsageError` for a device that is not here.
    """
    if launcher not in LAUNCHERS:
        raise unknown_name("launcher", launcher, LAUNCHERS)
    check_tracker(track)
    models = [resources] if isinstance(resources, Resources) else list(resources)
    if launcher != "ray":  # whose workers have devices of their own
        usable_device(models[0].device)
    store.note_grid(specs)
    grid = Grid(
        specs, ladder, plugins, keep_embeddings, keep_pair_weights, retries, timeout, track
    ).started(store)
    done = store.done_of(spec.id for spec in specs)
    todo = [spec for spec in specs if spec.id not in done]
    report: OnProgress = lambda ended: on_progress and on_progress(len(done) + ended)  # noqa: E731
    with stopping_on_signals():
        if launcher == "torchrun":
            drain_together(grid, models, store, report)
        elif launcher == "ray":
            drain_on_ray(grid, models, store, cluster or Cluster(), report)
        elif todo and (workers > 1 or timeout):
            drain_in_workers(grid, models, store, min(workers, len(todo)), report)
        else:
            do_open_runs(grid, models, store, report)
        stopped = stop_requested()
    outcome = outcome_of(specs, store, stopped)
    report(outcome.done - len(done))
    return outcome
