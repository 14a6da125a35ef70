"""What trackers get of a run, under which names; a tracker that fails does not end the run."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from oodml.errors import UsageError, unknown_name
from oodml.files import canonical_json
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.split import Split
from oodml.train.distributed import rank
from oodml.train.stopping import StoppedError

TRACKERS = ("tensorboard", "wandb", "mlflow")
# The experiment or project that holds the runs of all stores, unless the environment names another.
PROJECT = "oodml"
# File systems allow 255 bytes, legends far less.
_LABEL = 80
# Trackers that could not begin a run in this process: waiting for a server that is away would cost
# every run of a grid as long again.
_away: set[str] = set()
log = logging.getLogger("oodml")


class Tracker(Protocol):
    """One run as a tracker sees it; a run with the same id is continued.

    `member` names a model of the run and is empty for a single one. Steps count from 1. Any
    method may raise anything.
    """

    def start(self, member: str, step: int) -> None:
        """A model is trained from here on; what was tracked of it after `step` is void."""

    def epoch(self, member: str, step: int, figures: dict[str, float]) -> None:
        """The figures of the epoch that ended with `step`."""

    def finish(self, figures: dict[str, float]) -> None:
        """The run is over, with these results."""

    def abandon(self, *, failed: bool) -> None:
        """The run has failed, or was stopped and will be resumed."""


def check_tracker(name: str) -> None:
    """Raise `UsageError` for a tracker that is unknown or whose package is not installed.

    The empty name stands for none. Nothing is imported.
    """
    if not name:
        return
    if name not in TRACKERS:
        raise unknown_name("tracker", name, TRACKERS)
    found = find_spec(name)
    # A folder of that name where Python is started, as trackers make them, is found as well.
    if found is None or found.origin is None:
        raise UsageError(
            f"track={name!r} needs the package {name}, which comes with the extra track: "
            "pip install 'oodml[track]'."
        )


@contextmanager
def tracked(name: str, spec: RunSpec, split: Split, directory: Path) -> Iterator[Tracked]:
    """One run with the tracker of that name, none if it is empty or on ranks other than 0.

    `directory` is the run's; what is tracked on this machine lies beside the runs of its store.
    The run is closed whatever ends the block. A tracker that fails is named once in the log and
    dropped. Raises `UsageError` as `check_tracker` does.
    """
    check_tracker(name)
    run = Tracked("" if rank() else name, tracked_run(spec, split, directory))
    try:
        yield run
    except BaseException as error:
        run.abandon(failed=isinstance(error, Exception) and not isinstance(error, StoppedError))
        raise


class Tracked:
    """A run under a tracker that may fail, or under none."""

    def __init__(self, name: str, run: TrackedRun) -> None:
        self.name, self.run = name, run
        self._tracker: Tracker | None = None
        if name and name not in _away:
            self._begin()

    def _begin(self) -> None:
        try:
            module = import_module(f"oodml.train.tracking.{self.name}")
            self._tracker = module.begin(self.run)
        except Exception as error:  # the package of a tracker can raise anything
            _away.add(self.name)
            log.warning(
                "tracking with %s cannot begin (%s); runs go on without it.",
                self.name,
                _one_line(error),
            )

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            tell(self._tracker)
        except Exception as error:  # the package of a tracker can raise anything
            log.warning(
                "tracking %s with %s failed (%s); the run goes on without it.",
                self.run.name,
                self.name,
                _one_line(error),
            )
            broken, self._tracker = self._tracker, None
            with suppress(Exception):  # its failure has just been said
                broken.abandon(failed=True)

    def curves(self, member: str) -> Curves:
        """What tracks the epochs of one model of the run."""
        return Curves(self, member)

    def start(self, member: str, step: int) -> None:
        """See `Tracker.start`; so are the others."""
        self._tell(lambda tracker: tracker.start(member, step))

    def epoch(self, member: str, step: int, figures: dict[str, float]) -> None:
        """Track the figures of an epoch."""
        self._tell(lambda tracker: tracker.epoch(member, step, figures))

    def finish(self, record: RunRecord) -> None:
        """Track the results of the run, and close it."""
        figures = final_figures(record)
        self._tell(lambda tracker: tracker.finish(figures))
        self._tracker = None

    def abandon(self, *, failed: bool) -> None:
        """Close a run that has no results, if it is still open."""
        self._tell(lambda tracker: tracker.abandon(failed=failed))
        self._tracker = None


@dataclass(frozen=True)
class Curves:
    """One model's share in a tracked run."""

    tracked: Tracked
    member: str = ""

    def start(self, step: int) -> None:
        """Training continues after `step`; what was tracked after it is void."""
        self.tracked.start(self.member, step)

    def epoch(self, step: int, figures: dict[str, float]) -> None:
        """The figures of the epoch that ended with `step`."""
        self.tracked.epoch(self.member, step, figures)


def _one_line(error: Exception) -> str:
    """The first line of what an error says: trackers paste whole pages."""
    lines = str(error).splitlines()
    return lines[0] if lines and lines[0] else type(error).__name__


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers name it.

    `name` is for legends and fit for a folder: method, FID of the split, seed, id. `group` is
    shared by the seeds and rungs of a method. `directory` takes what a tracker writes here.
    """

    id: str
    name: str
    group: str
    settings: dict[str, str | int | float | bool]
    directory: Path


def tracked_run(spec: RunSpec, split: Split, directory: Path) -> TrackedRun:
    """How a run is named; its `directory` is the store's where the run lies in a store."""
    label = re.sub(r"[^\w.,=+()-]+", "_", spec.label)[:_LABEL]
    name = f"{label}-{_shift_name(split)}-seed{spec.seed}-{spec.id}"
    return TrackedRun(spec.id, name, spec.label, _flat(spec.settings()), _home(spec, directory))


def _shift_name(split: Split) -> str:
    if split.shift is None and split.published_fid is None:
        return f"split_{split.id}"
    return f"fid{split.fid:.4g}"


def _home(spec: RunSpec, directory: Path) -> Path:
    directory = directory.absolute()
    store = directory.parent.parent
    return store if Store(store).run_directory(spec.id) == directory else directory


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, str | int | float | bool]:
    """Nested settings as `outer.inner`; what is no plain value as JSON."""
    flat: dict[str, str | int | float | bool] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            plain = isinstance(value, str | int | float | bool)
            flat[f"{before}{name}"] = value if plain else canonical_json(value)
    return flat


def final_figures(record: RunRecord) -> dict[str, float]:
    """The results of a run: `test/recall_at_1`, `shift/fid`, `seconds`, and their like."""
    groups: list[tuple[str, Mapping[str, Any]]] = [
        (record.spec.data.measured_on, record.metrics),
        ("shift", record.shift),
    ]
    found = {
        f"{group}/{name}": float(value)
        for group, figures in groups
        for name, value in figures.items()
        if isinstance(value, int | float)
    }
    return {**found, "seconds": record.seconds}


def epoch_figures(figures: Mapping[str, float], member: str = "") -> dict[str, float]:
    """The figures of an epoch under the names that all trackers use: `training/loss`."""
    before = f"{member}/training/" if member else "training/"
    return {before + name: value for name, value in figures.items()}
