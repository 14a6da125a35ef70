"""What a tracker is told of a run: names that a reader knows, settings, figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oodml.files import canonical_json
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.split import Split

# Every experiment or project of a tracker holds the runs of all stores that are not told otherwise.
PROJECT = "oodml"
# File systems allow 255 bytes, legends far less.
_LABEL = 80


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
    return TrackedRun(spec.id, name, spec.label, _flat(asdict(spec)), _home(spec, directory))


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
