"""Checkpoints: where a run stands, written now and then, read back without unpickling."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oodml.files import atomic_write
from oodml.records import checked_fields
from oodml.train.distributed import rank
from oodml.train.objective import Objective

# Where a write takes up to two seconds, a kill costs at most five seconds of training; where it
# takes longer, at most twice its time.
SECONDS = 3.0
# Copying the state may cost at most this share of the time between two checkpoints.
SHARE = 0.05
log = logging.getLogger("oodml")


@dataclass
class Progress:
    """How far a run has come: steps done, the epoch under way, and what was measured so far.

    `epoch_start` is the number of steps before the epoch, `sums` and `counts` the figures of its
    steps; `best` is the highest validation value and `best_epoch` the epoch that reached it.
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
        self._copy: Any = None
        self._writer = ThreadPoolExecutor(1)
        self._written: Future[None] = Future()
        self._written.set_result(None)

    def restore(self) -> Progress:
        """Load weights and optimisers; the progress they belong to, none without a usable file."""
        if not self.path.exists():
            return Progress()
        before = copied(self._state(Progress()))
        try:
            return self._load(torch.load(self.path, map_location="cpu", weights_only=True))
        except Exception as error:  # a damaged file can end the reader with nearly any error
            reason = " ".join(str(error).split())
            log.warning("%s is damaged (%s); the run starts from its beginning.", self.path, reason)
            return self._load(before)

    def _load(self, state: Any) -> Progress:
        """Take over a state; it may be taken over in part where it is not one of this run's."""
        # The best value is minus infinity before the first, which records do not hold otherwise.
        progress = checked_fields(Progress, state["progress"], "progress", leave=("best",))
        self.objective.load_state_dict(state["objective"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        return Progress(**progress | {"best": float(progress["best"])})

    def save_if_due(self, progress: Progress) -> None:
        """Copy the state if the last one is old, and write it while training goes on.

        The copy costs at most a twentieth of the time; nothing is copied during a write. The write
        does not wait for the disk, which takes seconds for a large state: a kill of the process
        loses nothing by that, a power cut may cost the checkpoint (never a finished run).
        """
        started = time.monotonic()
        if started < self._due or rank() or not self._written.done():
            return
        self._written.result()
        self._copy = copied(self._state(progress), self._copy)
        self._written = self._writer.submit(self._write, self.path, self._copy, durable=False)
        cost = time.monotonic() - started
        self._due = started + max(SECONDS, cost / SHARE)

    def save(self, progress: Progress) -> None:
        """Write the state and wait until it is on the disk."""
        self.wait()
        if not rank():
            self._write(self.path, self._state(progress))

    def wait(self) -> None:
        """Wait for a write under way; raises what it raised, such as `OSError` for a full disk."""
        self._written.result()

    def is_long(self) -> bool:
        """Whether the run has gone on for longer than may be lost."""
        return time.monotonic() - self._begun > SECONDS

    def _state(self, progress: Progress) -> dict[str, Any]:
        return {
            "progress": asdict(progress),
            "objective": self.objective.state_dict(),
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
        }

    def save_best(self) -> None:
        """Keep the weights as the best so far; a run that starts again writes the same again."""
        if not rank():
            self._write(self.best, self.objective.state_dict())

    def load_best(self) -> None:
        """Bring the best weights back."""
        self.objective.load_state_dict(torch.load(self.best, map_location="cpu", weights_only=True))

    def _write(self, path: Path, state: object, *, durable: bool = True) -> None:
        with atomic_write(path, durable=durable) as file:
            torch.save(state, file)


def copied(state: Any, into: Any = None) -> Any:
    """A state in containers, its tensors copied to the CPU: what training does later is not in it.

    Tensors of an earlier copy `into` are written over where they fit, since fresh memory costs
    more than the copy. Raises nothing; whatever is neither a dict, a list, a tuple nor a tensor is
    kept as it is.
    """
    if isinstance(state, Tensor):
        return _tensor_copied(state.detach(), into)
    if isinstance(state, dict):
        earlier = into if isinstance(into, dict) else {}
        return {name: copied(value, earlier.get(name)) for name, value in state.items()}
    if isinstance(state, list | tuple):
        before = into if isinstance(into, list | tuple) and len(into) == len(state) else ()
        pairs = zip_longest(state, before)
        return type(state)(copied(value, earlier) for value, earlier in pairs)
    return state


def _tensor_copied(tensor: Tensor, into: Any) -> Tensor:
    fits = isinstance(into, Tensor) and into.shape == tensor.shape and into.dtype == tensor.dtype
    return into.copy_(tensor) if fits else tensor.to("cpu", copy=True)
