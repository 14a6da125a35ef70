"""Store: a directory of runs that is the queue, the cache and the database at once."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from oodml.claim import Claim, ClaimWatch
from oodml.errors import DataError
from oodml.files import atomic_write, canonical_json, digest, read_json, write_json

SCHEMA = 1
_TRY = re.compile(r"^== try \d+: (failed|killed) ==$", re.MULTILINE)
log = logging.getLogger("oodml")


@dataclass(frozen=True)
class RunSpec:
    """Everything that defines the result of one run, and nothing else.

    No path, device or number of workers stands here. `split` is the id of a split, so that
    inserting a rung into a ladder invalidates nothing. `weights` is the SHA-256 of the weights
    that the backbone starts from. `train` is "head" (a linear head on frozen features), "all"
    (the whole network on images) or "none" (the backbone's features as they are).

    `epochs`, if not 0, stand in place of `steps`; an epoch is `epoch_steps` batches, or
    n // batch_size if that is 0. `warmup_epochs` train new parameters only; `decay` is applied
    every `decay_every` epochs of schedule "step". `cached_views`, if not 0, is how many augmented
    versions of every image heads on frozen features are trained on, in place of the image as it is;
    a method that compares two views of an image needs two or more. `selection` is "last", or
    "best_validation": the state with the highest `selection_metric` on the split's validation
    classes, measured every `evaluate_every` epochs, the run ending after `patience` epochs without
    a better one.
    With `folds` or `ensemble` above 1 several models are trained (on the folds of the training
    classes, or with seeds of their own) and their unit embeddings concatenated.

    `measured_on` says which classes the metrics are those of: "test", or "validation" for a run
    that trains on the fitting classes of the split and never reads its test classes, so that
    settings may be chosen by it.

    `flip`, `mix` and `rerank` are tricks of the evaluation: embeddings summed with those of
    mirrored images, un-normalised embeddings mixed in with this share, and k-reciprocal
    re-ranking, which uses the test images together. `few_shot` is "" or what is adapted to the
    support of the rung's episodes: "head" or "all", by the loss of `few_shot_criterion`, at
    `few_shot_rate` times the learning rate; 0 stands for what suits what is trained.
    `gallery_classes` and `gallery_images`, if not 0, are how many of the test classes and of their
    images are evaluated on, drawn by seed: equal numbers make rungs of different sizes comparable.
    `preset` names the published protocol that the settings were taken from. `protocol` goes up
    when a change of code changes results.
    """

    dataset: str
    fingerprint: str
    split: str
    method: str
    backbone: str
    weights: str
    preprocessing: str
    precision: str = "fp32"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    train: str = "head"
    embedding_dim: int = 128
    steps: int = 300
    batch_size: int = 112
    samples_per_class: int = 4
    learning_rate: float = 1e-3
    criterion_learning_rate: float = 1e-2
    weight_decay: float = 0.0
    epochs: int = 0
    epoch_steps: int = 0
    batches: str = "balanced"
    accumulation: int = 1
    optimizer: str = "adam"
    optimizer_epsilon: float = 1e-8
    schedule: str = "constant"
    decay: float = 0.1
    decay_every: int = 0
    warmup_epochs: int = 0
    clip_value: float = 0.0
    clip_norm: float = 0.0
    training_precision: str = "fp32"
    pooling: str = "default"
    freeze_batchnorm: bool = True
    image_size: int = 0
    crop_scale: float = 0.08
    cached_views: int = 0
    selection: str = "last"
    selection_metric: str = "mean_average_precision_at_r"
    evaluate_every: int = 1
    patience: int = 0
    folds: int = 1
    ensemble: int = 1
    flip: bool = False
    mix: float = 0.0
    rerank: bool = False
    few_shot: str = ""
    few_shot_criterion: str = "margin"
    few_shot_steps: int = 0
    few_shot_rate: float = 0.0
    preset: str = ""
    gallery_classes: int = 0
    gallery_images: int = 0
    measured_on: str = "test"
    protocol: int = 1

    @cached_property
    def id(self) -> str:
        """12 hex digits over the fields that differ from their defaults."""
        return digest(self.to_json())

    @property
    def label(self) -> str:
        """The method with the hyperparameters that were set, as charts and tables name it."""
        changed = ", ".join(f"{key}={value}" for key, value in sorted(self.hyperparameters.items()))
        name = f"{self.method}({changed})" if changed else self.method
        return "".join([name, *(f" +{trick}" for trick in self.tricks)])

    @property
    def tricks(self) -> list[str]:
        """What the evaluation adds to a plain run, in the words that charts and tables show."""
        return [
            *([f"{self.folds} folds"] if self.folds > 1 else []),
            *([f"ensemble of {self.ensemble}"] if self.ensemble > 1 else []),
            *(["flip"] if self.flip else []),
            *([f"mix {self.mix:g}"] if self.mix else []),
            *(["re-ranking"] if self.rerank else []),
            *(["validation classes"] if self.measured_on == "validation" else []),
        ]

    def to_json(self) -> dict[str, Any]:
        """A plain dict without the fields that have their default value."""
        own = self.__dict__
        return {name: own[name] for name, default in _defaults().items() if own[name] != default}

    def placed(self, split: str, seed: int) -> RunSpec:
        """The same run on another split and with another seed; far quicker than `replace`."""
        spec = object.__new__(RunSpec)
        spec.__dict__.update(self.__dict__, split=split, seed=seed)
        spec.__dict__.pop("id", None)
        return spec

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RunSpec:
        """The spec in a JSON dict; `DataError` for a field that this oodml does not know."""
        unknown = sorted(set(record) - {f.name for f in fields(cls)})
        if unknown:
            raise DataError(f"unknown fields in a run's spec: {', '.join(unknown)}.")
        return cls(**record)


def _required(f: Any) -> bool:
    return f.default is MISSING and f.default_factory is MISSING


@cache
def _defaults() -> dict[str, Any]:
    """The default of every field of a spec; a field without one differs from it always."""
    return {f.name: _default(f) for f in fields(RunSpec)}


def _default(f: Any) -> Any:
    return f.default_factory() if f.default_factory is not MISSING else f.default


@dataclass(frozen=True)
class RunRecord:
    """A finished run: its spec, the shift of its split, and what was measured."""

    spec: RunSpec
    shift: dict[str, Any]
    metrics: dict[str, float]
    training: dict[str, float]
    environment: dict[str, str]
    seconds: float
    geometry: dict[str, dict[str, float]] = field(default_factory=dict)
    few_shot: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: str = "done"

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def label(self) -> str:
        return self.spec.label

    def to_json(self) -> dict[str, Any]:
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "spec"}
        return {**record, "schema": SCHEMA, "id": self.id, "spec": self.spec.to_json()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RunRecord:
        if record.get("schema") != SCHEMA:
            raise DataError(f"run schema {record.get('schema')!r}; this oodml reads {SCHEMA}.")
        known = [f for f in fields(cls) if f.name != "spec"]
        values = {f.name: record[f.name] for f in known if f.name in record or _required(f)}
        run = cls(spec=RunSpec.from_json(record["spec"]), **values)
        if run.id != record["id"]:
            raise DataError(f"the spec hashes to {run.id}, the record says {record['id']!r}.")
        return run


@dataclass(frozen=True)
class Tries:
    """How often a run has failed; `killed` if its process ended under it the last time."""

    count: int = 0
    killed: bool = False


class Store:
    """A directory of runs; several processes may work in it at the same time."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._watch = ClaimWatch()

    def run_directory(self, run_id: str) -> Path:
        """Where one run keeps its record, log, checkpoint, claim and traceback."""
        return self.directory / "runs" / run_id

    def record(self, run_id: str) -> RunRecord | None:
        """The finished run with this id, or None; `DataError` naming a broken record."""
        path = self.run_directory(run_id) / "run.json"
        if not path.exists():
            return None
        try:
            return RunRecord.from_json(read_json(path, "run record"))
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is not a valid run record ({error!r}).") from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def records(self) -> list[RunRecord]:
        """All finished runs, by id; broken records are logged by name and left out."""
        found = []
        for path in sorted((self.directory / "runs").glob("*/run.json")):
            try:
                record = self.record(path.parent.name)
            except DataError as error:
                log.warning("left out: %s", error)
                continue
            if record is not None:
                found.append(record)
        return found

    def is_done(self, run_id: str) -> bool:
        return (self.run_directory(run_id) / "run.json").exists()

    def done_of(self, run_ids: Iterable[str]) -> dict[str, float]:
        """The finished ones of these runs, and when they ended, in seconds of the file system."""
        runs = str(self.directory / "runs")
        found = {}
        for run_id in run_ids:
            with suppress(FileNotFoundError, NotADirectoryError):
                path = f"{runs}/{run_id}/run.json"
                found[run_id] = os.stat(path).st_mtime  # noqa: PTH116 (a Path costs more)
        return found

    def begun(self) -> list[str]:
        """The ids of all runs that have a folder, in order."""
        try:
            return sorted(entry.name for entry in os.scandir(self.directory / "runs"))
        except FileNotFoundError:
            return []

    def error(self, run_id: str) -> str | None:
        """The tracebacks of the failed tries, or None."""
        try:
            return (self.run_directory(run_id) / "error.txt").read_text()
        except FileNotFoundError:
            return None

    def tries(self, run_id: str) -> Tries:
        """How often a run has failed, and whether its process was killed the last time."""
        kinds = _TRY.findall(self.error(run_id) or "")
        return Tries(len(kinds), kinds[-1] == "killed" if kinds else False)

    def is_held(self, run_id: str) -> bool:
        """Whether a live process works on a run, as far as this store has seen so far."""
        return self._watch.is_held(self.run_directory(run_id) / "claim")

    def claim(self, run_id: str) -> Claim | None:
        """The right to work on a run, or None while another live process holds it.

        A claim whose process is gone is taken over: at once on the same boot of the same host,
        elsewhere after it was seen without a heartbeat for a minute of our own clock.
        """
        path = self.run_directory(run_id) / "claim"
        with self._locked():
            if self.is_done(run_id) or self._watch.is_held(path):
                return None
            path.parent.mkdir(parents=True, exist_ok=True)
            return Claim.take(path)

    def finish(self, record: RunRecord) -> None:
        """Write `run.json`; then drop the checkpoints and the tracebacks of earlier tries.

        A run ends once: a record that another process wrote meanwhile stays.
        """
        directory = self.run_directory(record.id)
        with self._locked():
            if not self.is_done(record.id):
                write_json(directory / "run.json", record.to_json())
        for path in (*directory.rglob("last.pt"), *directory.rglob("best.pt")):
            path.unlink(missing_ok=True)
        (directory / "error.txt").unlink(missing_ok=True)

    def renew(self, record: RunRecord) -> None:
        """Write a finished run again with what was measured since, such as more metrics."""
        write_json(self.run_directory(record.id) / "run.json", record.to_json())

    def fail(self, run_id: str, traceback: str, *, killed: bool = False) -> None:
        """Keep the traceback of a failed try; a failure is not a result.

        `killed` says that the process ended under the run, which may not be the run's fault.
        """
        earlier = self.error(run_id) or ""
        number, kind = self.tries(run_id).count + 1, "killed" if killed else "failed"
        with atomic_write(self.run_directory(run_id) / "error.txt") as file:
            file.write(f"{earlier}== try {number}: {kind} ==\n{traceback.rstrip()}\n".encode())

    def note_grid(self, specs: Sequence[RunSpec]) -> None:
        """Remember which runs were asked for, so that `status` knows what is missing."""
        labels = {label: at for at, label in enumerate(sorted({spec.label for spec in specs}))}
        runs = sorted([spec.id, labels[spec.label]] for spec in specs)
        path = self.directory / "grids" / f"{digest(runs)}.json"
        if not path.exists():
            text = canonical_json({"schema": SCHEMA, "labels": list(labels), "runs": runs})
            with atomic_write(path) as file:
                file.write(text.encode())

    def asked_for(self) -> dict[str, str]:
        """The labels of all runs that were ever asked for, by id; broken files are named."""
        found: dict[str, str] = {}
        for path in sorted((self.directory / "grids").glob("*.json")):
            try:
                grid = read_json(path, "list of runs")
                found |= {str(run): str(grid["labels"][label]) for run, label in grid["runs"]}
            except (DataError, KeyError, TypeError, ValueError, IndexError) as error:
                log.warning("left out: %s is no list of runs (%s).", path, error)
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
