"""The training loop; it knows no method by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodml.errors import DataError
from oodml.seeding import derive_seed
from oodml.train.checkpoint import Checkpoint, Progress
from oodml.train.data import Draw, prefetched
from oodml.train.distributed import any_process, share_of, sum_gradients, world_size
from oodml.train.epochs import DIAGNOSED, EpochLog, diagnostics, has_collapsed
from oodml.train.objective import Batch, Objective, Scheduled, Training
from oodml.train.stopping import StoppedError, stop_requested
from oodml.train.tracking import Curves
from oodml.train.updates import Updates

Validate = Callable[[Objective], float]


def fit(
    objective: Objective,
    training: Training,
    directory: Path,
    *,
    validate: Validate | None = None,
    tracker: Curves | None = None,
) -> dict[str, float]:
    """Train `objective` in place as its spec says; return the figures of its last epoch.

    Every step draws its batch and its random numbers from (seed, epoch) and (seed, step), so a
    run that starts again from `directory`/last.pt after a kill ends with the same weights, bit
    for bit, as an uninterrupted one on the same CPU. `directory`/epochs.jsonl gets one line an
    epoch, and `tracker` hears the same. With `validate`, the highest value decides which epoch's
    weights are kept. Raises `DataError` when the loss is not finite, and `StoppedError` when a stop
    was asked for.
    """
    run = _Run(objective, training, directory, validate, tracker)
    objective.train()
    figures: dict[str, float] = {}
    try:
        for epoch in count(run.progress.epoch):
            if run.is_over(epoch) and not run.has_begun(epoch):
                break
            figures = run.epoch(epoch) or figures
    finally:
        run.checkpoint.wait()
    if run.checkpoint.is_long():
        run.checkpoint.save(run.progress)
    run.select()
    return figures


class _Run:
    """One run under way: the loop's state and the pieces that it is made of."""

    def __init__(
        self,
        objective: Objective,
        training: Training,
        directory: Path,
        validate: Validate | None,
        tracker: Curves | None,
    ) -> None:
        self.objective, self.training, self.validate = objective, training, validate
        self.spec = objective.spec
        self.total = objective.total_steps(training)
        self.scheduled = [m for m in objective.modules() if isinstance(m, Scheduled)]
        self.updates = Updates(objective, self.total)
        self.checkpoint = Checkpoint(directory, objective, self.updates.optimizer)
        self.progress: Progress = self.checkpoint.restore()
        self.log = EpochLog(directory / "epochs.jsonl", self.progress, tracker)

    def has_begun(self, epoch: int) -> bool:
        """Whether a checkpoint was taken within the epoch, which is then still to be ended."""
        return self.progress.epoch == epoch and self.progress.steps > self.progress.epoch_start

    def is_over(self, epoch: int) -> bool:
        """Whether all steps or epochs are done, or patience has run out."""
        if self.spec.training.epochs:
            return self.progress.over or epoch >= self.spec.training.epochs
        return self.progress.over or self.progress.steps >= self.spec.training.steps

    def epoch(self, epoch: int) -> dict[str, float]:
        """Do what is left of an epoch; a begun one is not begun again."""
        progress = self.progress
        begun = self.has_begun(epoch)
        if not begun:
            progress.epoch, progress.epoch_start = epoch, progress.steps
            progress.sums, progress.counts = {}, {}
        self.updates.begin_epoch(epoch)
        if not begun:
            with seeded(self.training.seed, "epoch", epoch):
                self.objective.begin_epoch(self.training, epoch)
        for batch in self._batches(epoch):
            with seeded(self.training.seed, "step", batch.step):
                self._step(batch, epoch)
            progress.steps = batch.step + 1
            self.checkpoint.save_if_due(progress)
            if any_process(stop_requested()):
                self.checkpoint.save(progress)
                raise StoppedError(f"stopped after {progress.steps} steps; start again to go on.")
        return self._close(epoch)

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of the steps of an epoch that are still to be done."""
        progress, training = self.progress, self.training
        done = progress.steps
        requests = [
            (step, index)
            for step, index in enumerate(
                self.objective.loader(training, epoch), progress.epoch_start
            )
            if step >= done and (self.spec.training.epochs or step < self.spec.training.steps)
        ]
        shares = [share_of(len(index)) for _, index in requests]
        wanted = [
            (index[share], Draw(training.seed, step, view, share.start))
            for (step, index), share in zip(requests, shares, strict=True)
            for view in range(self.objective.views)
        ]
        inputs = prefetched(wanted, training.samples)
        for (step, index), share in zip(requests, shares, strict=True):
            views = tuple(next(inputs).to(training.device) for _ in range(self.objective.views))
            yield self._batch(views, index, share, step)

    def _batch(self, views: tuple[Tensor, ...], index: Any, share: slice, step: int) -> Batch:
        rows = torch.from_numpy(np.asarray(index))
        device = self.training.device
        labels = self.training.labels[rows].to(device)
        return Batch(views, labels, rows[share].to(device), step, step / self.total)

    def _step(self, batch: Batch, epoch: int) -> None:
        objective, updates, step = self.objective, self.updates, batch.step
        diagnosed = (step - self.progress.epoch_start) % DIAGNOSED == 0
        updates.clear()
        objective.observed = None
        value = 0.0
        for module in self.scheduled:
            module.begin_step(step)
        for part, weight in _parts(batch, self.spec.training.accumulation):
            loss = objective.loss(part) * weight
            value += float(loss.detach())
            if loss.requires_grad:
                (loss / world_size()).backward()  # type: ignore[no-untyped-call]
        if not np.isfinite(value):
            raise DataError(
                f"{self.spec.label}: the loss is {value} at step {step}; "
                "lower --learning-rate or the criterion's own rate."
            )
        sum_gradients(updates.parameters)
        self.log.add({"loss": value})
        if diagnosed:
            self._diagnose(batch)
        updates.step(step, epoch)
        objective.after_step(self.training, batch)

    def _diagnose(self, batch: Batch) -> None:
        figures = {"gradient_norm": self.updates.gradient_norm()}
        embeddings = self.objective.observed
        if embeddings is not None:
            figures |= diagnostics(embeddings, batch.labels[: len(embeddings)])
        self.log.add(figures)

    def _close(self, epoch: int) -> dict[str, float]:
        """End an epoch: validate if it is time, write its line, and judge it."""
        progress = self.progress
        more: dict[str, float] = {}
        due = (epoch + 1) % max(self.spec.training.evaluate_every, 1) == 0 or self._is_last()
        if self.validate is not None and due:
            more["validation"] = value = self.validate(self.objective)
            self.objective.train()
            if value > progress.best:
                progress.best, progress.best_epoch = value, epoch
                self.checkpoint.save_best()
            progress.over = 0 < self.spec.training.patience <= epoch - progress.best_epoch
        figures = self.log.close(**more)
        if has_collapsed(figures, self.spec.label):
            figures["collapsed"] = 1.0
        return {**figures, "steps": float(progress.steps), "epochs": float(epoch + 1)}

    def _is_last(self) -> bool:
        return self.progress.steps >= self.total

    def select(self) -> None:
        """Bring back the weights of the best epoch, if one was chosen."""
        if self.validate is not None and self.progress.best_epoch >= 0:
            self.checkpoint.load_best()


def _parts(batch: Batch, number: int) -> Iterator[tuple[Batch, float]]:
    """A batch in `number` parts and their weights in the mean; whole if it is not divided."""
    if number <= 1:
        yield batch, 1.0
        return
    for rows in torch.arange(len(batch.labels)).chunk(number):
        views = tuple(view[rows] for view in batch.views)
        part = replace(batch, views=views, labels=batch.labels[rows], index=batch.index[rows])
        yield part, len(rows) / len(batch.labels)


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
