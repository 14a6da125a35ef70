"""Checkpoints and the log of epochs: the files of a run, from which it resumes."""

from __future__ import annotations

import copy
import json
import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from oodml.files import atomic_write
from oodml.records import checked_fields
from oodml.train.distributed import rank
from oodml.train.objective import Objective
from oodml.train.tracking import Curves

# A checkpoint is written every 3 seconds, or less often where a write takes long: writing may cost
# at most a tenth of the time.
SECONDS = 3.0
SHARE = 0.1
log = logging.getLogger("oodml")


@dataclass
class Progress:
    """The progress of a run: steps done, the current epoch, and the figures measured so far.

    `epoch_start` is the number of steps before the epoch, `sums` and `counts` are over the figures
    of its steps; `best` is the highest validation value and `best_epoch` the epoch that reached it.
    """

    steps: int = 0
    epoch: int = 0
    epoch_start: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    best: float = float("-inf")
    best_epoch: int = -1
    over: bool = False


class Checkpoint:
    """`last.pt` and `best.pt` in a run's directory: weights, optimisers and progress."""

    def __init__(
        self, directory: Path, objective: Objective, optimizer: torch.optim.Optimizer
    ) -> None:
        self.path = directory / "last.pt"
        self.best = directory / "best.pt"
        self.objective = objective
        self.optimizers = {"main": optimizer, **objective.private_optimizers()}
        self._begun = time.monotonic()
        self._due = self._begun + SECONDS

    def restore(self) -> Progress:
        """Load weights and optimisers; return their progress, or a new one without usable files.

        A damaged `last.pt`, or a damaged `best.pt` where an epoch had been chosen, is logged, and
        the run starts from the beginning.
        """
        path = self.path
        if not path.exists():
            return Progress()
        before = copy.deepcopy(self._state(Progress()))
        try:
            state = _read(path)
            progress = self._load(state)
            if progress.best_epoch >= 0:
                path = self.best
                self.load_best()
                self._load(state)
            return progress
        except Exception as error:  # a damaged file can end the reader with nearly any error
            reason = " ".join(str(error).split())
            log.warning("%s is damaged (%s); the run starts from its beginning.", path, reason)
            return self._load(before)

    def _load(self, state: Any) -> Progress:
        """Load a state, possibly in part only: it may be another run's."""
        # The best value is minus infinity before the first, which records do not hold otherwise.
        progress = checked_fields(Progress, state["progress"], "progress", leave=("best",))
        self.objective.load_state_dict(state["objective"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        return Progress(**progress | {"best": float(progress["best"])})

    def save_if_due(self, progress: Progress) -> None:
        """Write the state if the last write is old enough.

        The write is not synchronised to the disk, which takes seconds for a large state: a killed
        process loses nothing by that, a power cut may cost the checkpoint (never a finished run).
        """
        started = time.monotonic()
        if started < self._due or rank():
            return
        self._write(self.path, self._state(progress), durable=False)
        cost = time.monotonic() - started
        self._due = started + max(SECONDS, cost / SHARE)

    def save(self, progress: Progress) -> None:
        """Write the state and wait until it is on the disk."""
        if not rank():
            self._write(self.path, self._state(progress))

    def is_long(self) -> bool:
        """Whether the run has lasted longer than a checkpoint interval."""
        return time.monotonic() - self._begun > SECONDS

    def _state(self, progress: Progress) -> dict[str, Any]:
        return {
            "progress": asdict(progress),
            "objective": self.objective.state_dict(),
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
        }

    def save_best(self) -> None:
        """Save the weights as the best so far; a resumed run overwrites them with the same."""
        if not rank():
            self._write(self.best, self.objective.state_dict())

    def load_best(self) -> None:
        """Load the best weights."""
        self.objective.load_state_dict(_read(self.best))

    def _write(self, path: Path, state: object, *, durable: bool = True) -> None:
        with atomic_write(path, durable=durable) as file:
            torch.save(state, file)


class EpochLog:
    """`epochs.jsonl`, one line per epoch; on resume the lines past the checkpoint are dropped.

    `tracker` is called with the same figures.
    """

    def __init__(self, path: Path, progress: Progress, tracker: Curves | None = None) -> None:
        self.path, self.progress, self.tracker = path, progress, tracker
        if rank():
            return
        kept = [line for line in self._lines() if line["epoch"] < progress.epoch]
        with atomic_write(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        if tracker is not None:
            tracker.start(progress.epoch_start)

    def _lines(self) -> list[dict[str, float]]:
        """The complete lines of the file; a killed process may leave a partial last one."""
        lines: list[dict[str, float]] = []
        for text in self.path.read_bytes().splitlines() if self.path.exists() else []:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                break
            if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
                break
            lines.append(line)
        return lines

    def add(self, figures: dict[str, float]) -> None:
        """Add the figures of one step to the epoch's sums."""
        progress = self.progress
        for name, value in figures.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.counts[name] = progress.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The mean of every figure over the steps of the epoch that measured it."""
        progress = self.progress
        return {name: total / progress.counts[name] for name, total in progress.sums.items()}

    def close(self, **more: float) -> dict[str, float]:
        """Write the line of the finished epoch, and return its figures."""
        figures = {**self.means(), **more}
        steps = self.progress.steps - self.progress.epoch_start
        if steps and not rank():
            with self.path.open("a") as file:
                line = {"epoch": self.progress.epoch, "steps": steps, **figures}
                file.write(json.dumps(line, allow_nan=False) + "\n")
            if self.tracker is not None:
                self.tracker.epoch(self.progress.steps, figures)
        return figures


def _read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
