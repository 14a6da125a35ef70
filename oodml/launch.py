"""run_grid: worker processes drain the store until every run is done, failed or held elsewhere."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from oodml.errors import OodmlError
from oodml.fid.features import Features
from oodml.splits.episodes import Episode, Fold, episodes_of, validation_fold, validation_of
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split
from oodml.store import RunSpec, Store
from oodml.train.build import Resources
from oodml.train.registry import load_plugin
from oodml.train.run import train

POLL_SECONDS = 0.2
log = logging.getLogger("oodml")
OnProgress = Callable[[int], object]


@dataclass(frozen=True)
class GridOutcome:
    """How many runs of a grid are done, and the ids of those that failed or are missing."""

    done: int
    failed: tuple[str, ...]
    missing: tuple[str, ...]


def run_grid(
    specs: Sequence[RunSpec],
    ladder: Ladder,
    resources: Resources,
    store: Store,
    *,
    workers: int = 1,
    plugins: Sequence[Path] = (),
    keep_embeddings: Container[str] = (),
    on_progress: OnProgress | None = None,
) -> GridOutcome:
    """Do the runs of `specs` that the store does not hold yet.

    Several calls, from several processes or machines, may share a store: each run is done once.
    A run that fails leaves its traceback in the store and is tried again by the next call.
    `plugins` are the files of the user's own methods, which every worker reads;
    `keep_embeddings` holds the ids of runs whose test embeddings are kept in their folders;
    `on_progress` hears the number of finished runs now and then.
    """
    report = on_progress or (lambda done: None)
    grid = _Grid(specs, ladder, keep_embeddings)
    if workers <= 1:
        _drain(grid, resources, store, report)
    else:
        _drain_in_processes(grid, resources, store, workers, plugins, report)
    return _outcome(specs, store)


@dataclass(frozen=True)
class _Grid:
    """What is to be done, wherever it is done."""

    specs: Sequence[RunSpec]
    ladder: Ladder
    keep_embeddings: Container[str]

    def fold(self, split: Split) -> Fold:
        """The validation classes of a rung or of a control."""
        rung = self.ladder.rung_of(split.id)
        return validation_fold(split) if rung is None else validation_of(self.ladder, rung)

    def episodes(self, split: Split, resources: Resources) -> tuple[Episode, ...] | None:
        """The few-shot episodes that a rung came with; None where they are to be drawn."""
        rung = self.ladder.rung_of(split.id)
        if rung is None or not self.ladder.episodes or not self.ladder.episodes[rung]:
            return None
        shots = sorted(self.ladder.episodes[rung])
        return episodes_of(self.ladder, rung, resources.taking_part(split).features, shots=shots)


def _outcome(specs: Sequence[RunSpec], store: Store) -> GridOutcome:
    open_runs = [spec.id for spec in specs if not store.is_done(spec.id)]
    failed = tuple(run for run in open_runs if store.error(run) is not None)
    missing = tuple(run for run in open_runs if run not in failed)
    return GridOutcome(len(specs) - len(open_runs), failed, missing)


def _drain(
    grid: _Grid,
    resources: Resources,
    store: Store,
    report: OnProgress,
) -> None:
    """Claim and do runs until none is left; wait for those that others hold."""
    tried: set[str] = set()
    while True:
        held = 0
        for spec in grid.specs:
            if spec.id in tried or store.is_done(spec.id):
                continue
            claim = store.claim(spec.id)
            if claim is None:
                held += not store.is_done(spec.id)
                continue
            tried.add(spec.id)
            with claim:
                _run(spec, grid, resources, store)
            report(sum(store.is_done(s.id) for s in grid.specs))
        if not held:
            return
        time.sleep(POLL_SECONDS)


def _run(spec: RunSpec, grid: _Grid, resources: Resources, store: Store) -> None:
    """One run, its failure kept in the store so that the others go on."""
    split = grid.ladder.split_of(spec.split)
    try:
        if split is None:
            raise OodmlError(
                f"run {spec.id} is for split {spec.split}, which is not on the ladder."
            )
        record = train(
            spec,
            split,
            resources,
            store.run_directory(spec.id),
            fold=grid.fold(split) if spec.selection == "best_validation" else None,
            episodes=grid.episodes(split, resources) if spec.few_shot else None,
            keep_embeddings=spec.id in grid.keep_embeddings,
        )
    except Exception as error:
        store.fail(spec.id, traceback.format_exc())
        log.error("run %s (%s, split %s) failed: %s", spec.id, spec.label, spec.split, error)
    else:
        store.finish(record)


def _drain_in_processes(
    grid: _Grid,
    resources: Resources,
    store: Store,
    workers: int,
    plugins: Sequence[Path],
    report: OnProgress,
) -> None:
    context = get_context("spawn")
    specs = grid.specs
    todo = sum(not store.is_done(spec.id) for spec in specs)
    with _shared(resources) as shared:
        processes: list[BaseProcess] = [
            context.Process(
                target=_work,
                args=(grid, shared, store.directory, plugins, os.getpid()),
                daemon=True,
            )
            for _ in range(min(workers, todo))
        ]
        try:
            for process in processes:
                process.start()
            while any(process.is_alive() for process in processes):
                report(sum(store.is_done(spec.id) for spec in specs))
                processes[0].join(POLL_SECONDS)
        finally:
            for process in processes:
                if process.pid is not None:
                    process.terminate()
                    process.join()
    for process in processes:
        if process.exitcode:
            log.error("a worker ended with exit code %s; run again to go on.", process.exitcode)
    report(sum(store.is_done(spec.id) for spec in specs))


@dataclass(frozen=True)
class _SharedResources:
    """Resources whose feature values lie in a file that all workers map into memory."""

    values: Path
    rest: Resources

    def open(self) -> Resources:
        values = np.load(self.values, mmap_mode="r", allow_pickle=False)
        return replace(self.rest, features=replace(self.rest.features, values=values))


@contextmanager
def _shared(resources: Resources) -> Iterator[_SharedResources]:
    with tempfile.TemporaryDirectory(prefix="oodml-") as directory:
        path = Path(directory) / "values.npy"
        np.save(path, resources.features.values)
        yield _SharedResources(path, replace(resources, features=_emptied(resources.features)))


def _emptied(features: Features) -> Features:
    """The same record without its weight: every row is the same single number."""
    return replace(features, values=np.broadcast_to(np.float32(0), (len(features), 1)))


def _work(
    grid: _Grid,
    shared: _SharedResources,
    directory: Path,
    plugins: Sequence[Path],
    parent: int,
) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    for path in plugins:
        load_plugin(path)
    _drain(grid, shared.open(), Store(directory), lambda done: None)


def _end_with(parent: int) -> None:
    """Leave at once when the parent is gone, however it ended; the claim is then stale."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
