"""Checkpoints: where a run stands, written now and then, read back without unpickling."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from oodml.files import atomic_write
from oodml.train.distributed import rank
from oodml.train.objective import Objective

SECONDS = 5.0
# A checkpoint may cost at most this share of the time between two of them.
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
        self._due = time.monotonic() + SECONDS

    def restore(self) -> Progress:
        """Load weights and optimisers; the progress they belong to, none without a usable file."""
        if not self.path.exists():
            return Progress()
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            progress = Progress(**state["progress"])
            optimizers = {name: state["optimizers"][name] for name in self.optimizers}
            weights = state["objective"]
        except Exception as error:  # a damaged file can end the reader with nearly any error
            log.warning("%s is damaged (%s); the run starts from its beginning.", self.path, error)
            return Progress()
        self.objective.load_state_dict(weights)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(optimizers[name])
        return progress

    def save_if_due(self, progress: Progress) -> None:
        """Write the state if the last one is old; costs at most a twentieth of the time."""
        started = time.monotonic()
        if started < self._due or rank():
            return
        self._write(
            self.path,
            {
                "progress": asdict(progress),
                "objective": self.objective.state_dict(),
                "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
            },
        )
        cost = time.monotonic() - started
        self._due = time.monotonic() + max(SECONDS, cost / SHARE)

    def save_best(self) -> None:
        """Keep the weights as the best so far; a run that starts again writes the same again."""
        if not rank():
            self._write(self.best, self.objective.state_dict())

    def load_best(self) -> None:
        """Bring the best weights back."""
        self.objective.load_state_dict(torch.load(self.best, map_location="cpu", weights_only=True))

    def _write(self, path: Path, state: object) -> None:
        with atomic_write(path) as file:
            torch.save(state, file)
