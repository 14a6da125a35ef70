"""Grid: what is to be done, wherever it is done, and how one process does it."""

from __future__ import annotations

import errno
import logging
import time
import traceback
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from oodml.errors import DataError, OodmlError
from oodml.runs.networks import names_of
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.episodes import Episode, Fold, episodes_of, validation_fold, validation_of
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split
from oodml.train.build import Resources, position_of
from oodml.train.registry import load_plugin
from oodml.train.run import train_run
from oodml.train.stopping import StoppedError, stop_requested

RETRIES = 2
# What the operating system says when a store takes no more writing.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
log = logging.getLogger("oodml")
OnProgress = Callable[[int], object]
POLL_SECONDS = 0.2
OnRun = Callable[[RunSpec | None], object]


@dataclass(frozen=True)
class Grid:
    """Runs on the splits of a ladder, and how they are done.

    A run that failed more than `retries` times is given up. `timeout`, in seconds, ends runs that
    hang (0: never). `plugins` are the files of the user's own methods; `keep_embeddings` holds
    the ids of runs whose test embeddings are kept. `failed_before` counts the failures that were
    in the store when the grid was started: within one call a failed run is not tried again.
    """

    specs: Sequence[RunSpec]
    ladder: Ladder
    plugins: Sequence[Path] = ()
    keep_embeddings: Container[str] = ()
    keep_pair_weights: bool = False
    retries: int = RETRIES
    timeout: float = 0.0
    track: str = ""
    failed_before: Mapping[str, int] = field(default_factory=dict)

    def fold(self, split: Split) -> Fold:
        """The validation classes of a split; those that its rung came with, if any."""
        rung = self.ladder.rung_of(split.id)
        return validation_fold(split) if rung is None else validation_of(self.ladder, rung)

    def episodes(self, split: Split, resources: Resources) -> tuple[Episode, ...] | None:
        """The few-shot episodes that a rung came with; None where they are to be drawn."""
        rung = self.ladder.rung_of(split.id)
        if rung is None or not self.ladder.episodes or not self.ladder.episodes[rung]:
            return None
        shots = sorted(self.ladder.episodes[rung])
        return episodes_of(self.ladder, rung, resources.features, shots=shots)

    def groups(self, resources: Resources) -> dict[str, str] | None:
        """The group of every class, if the ladder was built of whole groups."""
        features = resources.features
        if features.groups is None or self.ladder.settings.by != "group":
            return None
        return dict(zip(features.class_names, features.groups, strict=True))

    def started(self, store: Store) -> Grid:
        """The grid with the failures that the store holds now."""
        counts = {spec.id: store.tries(spec.id).count for spec in self.specs}
        return replace(self, failed_before={run: count for run, count in counts.items() if count})

    def is_due(self, run_id: str, store: Store) -> bool:
        """Whether a run that is not done may be tried: not given up, nor failed in this call.

        A run whose process was killed is tried again at once.
        """
        tries = store.tries(run_id)
        if tries.count > self.retries:
            return False
        return tries.killed or tries.count <= self.failed_before.get(run_id, 0)

    def read_plugins(self) -> None:
        """Register the methods of the plugins in this process."""
        for path in self.plugins:
            load_plugin(path)


@dataclass(frozen=True)
class GridOutcome:
    """How many runs of a grid are done, and the ids of those that failed or are missing.

    `stopped` says that the call ended because it was asked to.
    """

    done: int
    failed: tuple[str, ...]
    missing: tuple[str, ...]
    stopped: bool = False


def outcome_of(specs: Sequence[RunSpec], store: Store, stopped: bool = False) -> GridOutcome:
    """What the store holds of these runs."""
    done = store.done_of(spec.id for spec in specs)
    open_runs = [spec.id for spec in specs if spec.id not in done]
    failed = tuple(run for run in open_runs if store.tries(run).count)
    missing = tuple(run for run in open_runs if run not in set(failed))
    return GridOutcome(len(done), failed, missing, stopped)


def do_run(spec: RunSpec, grid: Grid, models: Sequence[Resources], store: Store) -> None:
    """One run on the model that it names, its failure kept in the store so that the others go on.

    Raises `StoppedError` when a stop was asked for, `DataError` when the store cannot be written.
    """
    split = grid.ladder.split_of(spec.data.split)
    try:
        if split is None:
            raise OodmlError(
                f"run {spec.id} is for split {spec.data.split}, which is not on the ladder."
            )
        resources = models[position_of(spec.model, models)]
        whole = not spec.is_reference
        validated = whole and (
            spec.training.selection == "best_validation" or spec.data.measured_on == "validation"
        )
        store.finish(
            train_run(
                spec,
                split,
                resources,
                store.run_directory(spec.id),
                fold=grid.fold(split) if validated else None,
                episodes=grid.episodes(split, resources) if whole and spec.few_shot.adapt else None,
                groups=grid.groups(resources),
                ruler=grid.ladder.features.network,
                keep_embeddings=spec.id in grid.keep_embeddings,
                keep_pair_weights=grid.keep_pair_weights,
                track=grid.track,
            )
        )
    except StoppedError:
        raise
    except Exception as error:
        raise_if_unwritable(error, store)
        store.fail(spec.id, traceback.format_exc())
        name = names_of(grid.specs)[spec.id]
        log.error("run %s (%s, split %s) failed: %s", spec.id, name, spec.data.split, error)


def raise_if_unwritable(error: Exception, store: Store) -> None:
    """`DataError` for an error that says that the disk is full or read-only."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        raise DataError(
            f"{store.directory} takes no more writing ({error.strerror}); what is done is kept: "
            "make room and start again to go on."
        ) from error


def do_open_runs(
    grid: Grid,
    models: Sequence[Resources],
    store: Store,
    report: OnProgress,
    at: OnRun = lambda spec: None,
) -> None:
    """Do the runs that no other process holds; then wait for those that others do.

    `report` is called with the number of runs that this process has ended, `at` with the run that
    it begins, and with None when that has ended. Returns early when a stop was asked for. Raises
    `DataError` when the store cannot be written.
    """
    ended = 0
    left = list(grid.specs)
    while left and not stop_requested():
        held: list[RunSpec] = []
        for spec in left:
            try:
                took = _do_if_free(spec, grid, models, store, at)
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
    spec: RunSpec, grid: Grid, models: Sequence[Resources], store: Store, at: OnRun
) -> bool | None:
    """Whether the run was done here; None when another process holds it."""
    if store.is_done(spec.id) or not grid.is_due(spec.id, store):
        return False
    claim = store.claim(spec.id)
    if claim is None:
        return None
    with claim:
        at(spec)
        do_run(spec, grid, models, store)
        at(None)
    return True
