"""The training loop, its checkpoints and its resume; it knows no method by name."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oodml.errors import DataError
from oodml.files import atomic_write
from oodml.seeding import derive_seed
from oodml.train.objective import Batch, Objective, optimizer_groups
from oodml.train.samples import Samples

CHECKPOINT_SECONDS = 5.0
# A checkpoint may cost at most this share of the time between two of them.
CHECKPOINT_SHARE = 0.05
log = logging.getLogger("oodml")


def fit(
    objective: Objective, samples: Samples, directory: Path, *, device: str = "cpu"
) -> dict[str, float]:
    """Train `objective` in place for `spec.steps` steps; return loss figures of the last epoch.

    Every step draws its batch and its random numbers from (seed, epoch) and (seed, step), so a
    run that starts again from `directory`/last.pt after a kill ends with the same weights, bit
    for bit, as an uninterrupted one on the same CPU. `directory`/epochs.jsonl gets one line an
    epoch. Raises `DataError` when the loss is not finite.
    """
    spec = objective.spec
    optimizer = torch.optim.Adam(optimizer_groups(objective))
    checkpoint = Checkpoint(directory / "last.pt", objective, optimizer)
    first, begun = checkpoint.restore()
    history = EpochLog(directory / "epochs.jsonl", begun)
    objective.train()
    for step, epoch, index in _batches(objective, samples.labels, first):
        with seeded(spec.seed, "step", step):
            batch = Batch(
                samples.training(index).to(device),
                samples.labels[torch.from_numpy(index)].to(device),
                torch.from_numpy(index).to(device),
            )
            loss = _step(objective, optimizer, batch, step)
        history.add(epoch, loss)
        checkpoint.save_if_due(step + 1, history.begun)
    return {**history.close(), "steps": float(spec.steps)}


def _batches(objective: Objective, labels: Tensor, first: int) -> Iterator[tuple[int, int, Any]]:
    """(step, epoch, index array) from step `first` on; an epoch begun before is not begun again."""
    step = 0
    for epoch in count():
        if step >= first:
            with seeded(objective.spec.seed, "epoch", epoch):
                objective.begin_epoch(epoch)
        for index in objective.loader(labels, epoch):
            if step == objective.spec.steps:
                return
            if step >= first:
                yield step, epoch, index
            step += 1


def _step(objective: Objective, optimizer: torch.optim.Optimizer, batch: Batch, step: int) -> float:
    loss = objective.loss(batch)
    value = float(loss.detach())
    if not torch.isfinite(loss.detach()):
        raise DataError(
            f"{objective.spec.label}: the loss is {value} at step {step}; "
            "lower --learning-rate or the criterion's own rate."
        )
    optimizer.zero_grad(set_to_none=True)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    objective.after_step(batch, step)
    return value


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Torch's generators seeded for one purpose, and put back as they were afterwards."""
    number = derive_seed(seed, *purpose)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed costs a millisecond where there is no GPU: it notes the call stack.
        torch.default_generator.manual_seed(number)
        if devices:
            torch.cuda.manual_seed_all(number)
        yield


@dataclass
class BegunEpoch:
    """An epoch that is not over yet, and the losses of its steps so far."""

    epoch: int = 0
    losses: list[float] = field(default_factory=list)


class Checkpoint:
    """`last.pt`: weights, optimiser and step, written now and then and read with weights_only."""

    def __init__(self, path: Path, objective: Objective, optimizer: torch.optim.Optimizer) -> None:
        self.path = path
        self.objective = objective
        self.optimizer = optimizer
        self._due = time.monotonic() + CHECKPOINT_SECONDS

    def restore(self) -> tuple[int, BegunEpoch]:
        """The steps done before and the epoch they ended in; none without a usable file."""
        if not self.path.exists():
            return 0, BegunEpoch()
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            steps, begun = int(state["steps"]), BegunEpoch(state["epoch"], state["losses"])
        except Exception as error:  # a damaged file can end the reader with nearly any error
            log.warning("%s is damaged (%s); the run starts from its beginning.", self.path, error)
            return 0, BegunEpoch()
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        return steps, begun

    def save_if_due(self, steps: int, begun: BegunEpoch) -> None:
        started = time.monotonic()
        if started < self._due:
            return
        state = {
            "steps": steps,
            "epoch": begun.epoch,
            "losses": begun.losses,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_write(self.path) as file:
            torch.save(state, file)
        cost = time.monotonic() - started
        self._due = time.monotonic() + max(CHECKPOINT_SECONDS, cost / CHECKPOINT_SHARE)


class EpochLog:
    """`epochs.jsonl`, one line an epoch; on resume the lines past the checkpoint are dropped."""

    def __init__(self, path: Path, begun: BegunEpoch) -> None:
        self.path = path
        self.begun = begun
        kept = [line for line in self._lines() if line["epoch"] < begun.epoch]
        with atomic_write(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())

    def _lines(self) -> list[dict[str, float]]:
        """The whole lines of the file; a kill may have torn the last one."""
        lines = []
        for text in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return lines

    def add(self, epoch: int, loss: float) -> None:
        """Note the loss of one step; a step of a new epoch ends the one before."""
        if epoch != self.begun.epoch:
            self.close()
            self.begun = BegunEpoch(epoch)
        self.begun.losses.append(loss)

    def close(self) -> dict[str, float]:
        """Write the line of the epoch that ends and return its figures; none without a step."""
        losses = self.begun.losses
        if not losses:
            return {}
        figures = {"loss": sum(losses) / len(losses)}
        line = {"epoch": self.begun.epoch, "steps": len(losses), **figures}
        with self.path.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        return figures
