"""The training loop: optimiser steps over any objective."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oodml.errors import DataError, UsageError, unknown_name
from oodml.runs.spec import TrainingSpec
from oodml.seeding import derive_seed
from oodml.train.checkpoint import Checkpoint, EpochLog, Progress
from oodml.train.data import Draw, prefetched
from oodml.train.distributed import any_process, share_of, sum_gradients, world_size
from oodml.train.objective import (
    Batch,
    Objective,
    ParameterGroup,
    Scheduled,
    Training,
    check_groups,
)
from oodml.train.stopping import StoppedError, stop_requested
from oodml.train.tracking import Curves

Validate = Callable[[Objective], float]
# Figures other than the loss are measured at every tenth step of an epoch, from its first.
DIAGNOSED = 10
# Total variance of unit vectors, between 0 (all equal) and 1; rounding leaves about 1e-7.
COLLAPSED = 1e-4
MOMENTUM = 0.9
_OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = {
    "adam": lambda groups, epsilon: torch.optim.Adam(groups, eps=epsilon),
    "adamw": lambda groups, epsilon: torch.optim.AdamW(groups, eps=epsilon),
    "rmsprop": lambda groups, epsilon: torch.optim.RMSprop(groups, momentum=MOMENTUM, eps=epsilon),
    "sgd": lambda groups, epsilon: torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM),
}
OPTIMIZERS = tuple(_OPTIMIZERS)
log = logging.getLogger("oodml")


def fit(
    objective: Objective,
    training: Training,
    directory: Path,
    *,
    validate: Validate | None = None,
    tracker: Curves | None = None,
) -> dict[str, float]:
    """Train `objective` in place as its spec says; return the figures of its last epoch.

    Every step draws its batch and its random numbers from (seed, epoch) and (seed, step), so a run
    that is resumed from `directory`/last.pt after a kill ends with the same weights, bit for bit,
    as an uninterrupted one on the same CPU. `directory`/epochs.jsonl gets one line per epoch, and
    `tracker` is called with the same figures. With `validate`, the weights of the epoch with the
    highest value are kept. Raises `DataError` when the loss is not finite, and `StoppedError` when
    a stop was requested.
    """
    run = _Run(objective, training, directory, validate, tracker)
    objective.train()
    figures: dict[str, float] = {}
    for epoch in count(run.progress.epoch):
        if run.is_over(epoch) and not run.has_begun(epoch):
            break
        figures = run.epoch(epoch) or figures
    if run.checkpoint.is_long():
        run.checkpoint.save(run.progress)
    run.select()
    return figures


class _Run:
    """The state of the loop: the objective, its progress, and the files it is written to."""

    def __init__(
        self,
        objective: Objective,
        training: Training,
        directory: Path,
        validate: Validate | None,
        tracker: Curves | None,
    ) -> None:
        self.objective, self.training, self.validate = objective, training, validate
        self.settings, self.label = objective.spec.training, objective.spec.label
        self.total = objective.total_steps(training)
        self.scheduled = [m for m in objective.modules() if isinstance(m, Scheduled)]
        self.updates = Updates(objective, self.total)
        self.checkpoint = Checkpoint(directory, objective, self.updates.optimizer)
        self.progress: Progress = self.checkpoint.restore()
        self.log = EpochLog(directory / "epochs.jsonl", self.progress, tracker)

    def has_begun(self, epoch: int) -> bool:
        """Whether a checkpoint lies within the epoch, which is then resumed."""
        return self.progress.epoch == epoch and self.progress.steps > self.progress.epoch_start

    def is_over(self, epoch: int) -> bool:
        """Whether all steps or epochs are done, or patience has run out."""
        if self.settings.epochs:
            return self.progress.over or epoch >= self.settings.epochs
        return self.progress.over or self.progress.steps >= self.settings.steps

    def epoch(self, epoch: int) -> dict[str, float]:
        """Do the remaining steps of an epoch, with `begin_epoch` only if it has not begun."""
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
                raise StoppedError(
                    f"stopped after {progress.steps} steps; start it again to resume."
                )
        return self._close(epoch)

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of the remaining steps of an epoch."""
        progress, training = self.progress, self.training
        done = progress.steps
        requests = [
            (step, index)
            for step, index in enumerate(
                self.objective.loader(training, epoch), progress.epoch_start
            )
            if step >= done and (self.settings.epochs or step < self.settings.steps)
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
            rows = torch.from_numpy(np.asarray(index))
            labels = training.labels[rows].to(training.device)
            own = rows[share].to(training.device)
            yield Batch(views, labels, own, step, step / self.total)

    def _step(self, batch: Batch, epoch: int) -> None:
        objective, updates, step = self.objective, self.updates, batch.step
        diagnosed = (step - self.progress.epoch_start) % DIAGNOSED == 0
        updates.clear()
        objective.observed = None
        value = 0.0
        for module in self.scheduled:
            module.begin_step(step)
        for part, weight in parts_of(batch, self.settings.accumulation):
            loss = objective.loss(part) * weight
            value += float(loss.detach())
            if loss.requires_grad:
                (loss / world_size()).backward()  # type: ignore[no-untyped-call]
        if not np.isfinite(value):
            raise DataError(
                f"{self.label}: the loss is {value} at step {step}; "
                "lower learning_rate or criterion_learning_rate."
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
        """End an epoch: validate if due, write its line, update the best epoch and patience."""
        progress = self.progress
        more: dict[str, float] = {}
        last = progress.steps >= self.total
        due = last or (epoch + 1) % max(self.settings.evaluate_every, 1) == 0
        if self.validate is not None and due:
            more["validation"] = value = self.validate(self.objective)
            self.objective.train()
            if value > progress.best:
                progress.best, progress.best_epoch = value, epoch
                self.checkpoint.save_best()
            progress.over = 0 < self.settings.patience <= epoch - progress.best_epoch
        figures = self.log.close(**more)
        if has_collapsed(figures, self.label):
            figures["collapsed"] = 1.0
        return {**figures, "steps": float(progress.steps), "epochs": float(epoch + 1)}

    def select(self) -> None:
        """Load the weights of the best epoch, if one was chosen."""
        if self.validate is not None and self.progress.best_epoch >= 0:
            self.checkpoint.load_best()


def parts_of(batch: Batch, number: int) -> Iterator[tuple[Batch, float]]:
    """A batch in `number` parts with their weights in the mean, or whole if it does not divide.

    Each part has an equal share of every process's samples, so that its labels match what is
    gathered from all processes.
    """
    if number <= 1:
        yield batch, 1.0
        return
    own = len(batch.index)
    labels = batch.labels.view(-1, own)
    for rows in torch.arange(own).chunk(number):
        yield (
            replace(
                batch,
                views=tuple(view[rows] for view in batch.views),
                labels=labels[:, rows].flatten(),
                index=batch.index[rows],
            ),
            len(rows) / own,
        )


class Updates:
    """Optimiser steps over an objective's declared parameter groups.

    The learning rates are a function of step and epoch alone, so the schedule has no state to save.
    Raises `ValueError` for a parameter that is not in exactly one group.
    """

    def __init__(self, objective: Objective, total_steps: int) -> None:
        check_groups(objective)
        settings = self.settings = objective.spec.training
        self.total_steps = total_steps
        self.groups: list[ParameterGroup] = objective.parameter_groups()
        self.parameters = [p for group in self.groups for p in group.parameters]
        if settings.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", settings.optimizer, OPTIMIZERS)
        check_schedule(settings)
        self.optimizer = _OPTIMIZERS[settings.optimizer](
            [
                {"params": g.parameters, "lr": g.learning_rate, "weight_decay": g.weight_decay}
                for g in self.groups
            ],
            settings.optimizer_epsilon,
        )

    def begin_epoch(self, epoch: int) -> None:
        """Freeze the groups that are not `warm` during the warm-up."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.requires_grad_(group.warm or epoch >= self.settings.warmup_epochs)

    def clear(self) -> None:
        """Clear the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def gradient_norm(self) -> float:
        """The Euclidean norm of all gradients, before clipping."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients)) if gradients else 0.0

    def step(self, step: int, epoch: int) -> None:
        """Clip the gradients, set the learning rates, and update the parameters."""
        if self.settings.clip_value:
            nn.utils.clip_grad_value_(self.parameters, self.settings.clip_value)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        factor = rate_factor(self.settings, step, epoch, self.total_steps)
        for declared, group in zip(self.groups, self.optimizer.param_groups, strict=True):
            group["lr"] = declared.learning_rate * factor
        self.optimizer.step()


def check_schedule(settings: TrainingSpec) -> None:
    """Raise `UsageError` for a step schedule without the number of epochs between steps."""
    every = settings.decay_every
    if settings.schedule == "step" and every < 1:
        raise UsageError(
            f"schedule='step' with decay_every={every}: give the number of epochs after which the "
            "learning rates fall, such as decay_every=20."
        )


def rate_factor(settings: TrainingSpec, step: int, epoch: int, total_steps: int) -> float:
    """The factor of the learning rates at a step.

    "cosine" falls from 1 to 0 over all steps (arXiv:1608.03983 without restarts), "step" multiplies
    by `decay` every `decay_every` epochs.
    """
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / max(total_steps, 1)))
    if settings.schedule == "step":
        return float(settings.decay ** (epoch // settings.decay_every))
    return 1.0


@torch.no_grad()
def diagnostics(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """Figures of a step: mean distances within and between classes, and the active share.

    `embeddings` (B, D) are of unit length; `active_fraction` is the share of samples with a
    non-zero gradient, if there are gradients. `variance` is 1 minus the squared length of the mean
    embedding: 0 when all are equal.
    """
    distances = torch.cdist(embeddings, embeddings)
    same = labels[:, None] == labels[None, :]
    pairs = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    figures = {"variance": float(1 - embeddings.mean(0).square().sum())}
    for name, chosen in (("positive_distance", same & pairs), ("negative_distance", ~same)):
        if chosen.any():
            figures[name] = float(distances[chosen].mean())
    if embeddings.grad is not None:
        moved = (embeddings.grad != 0).any(1)
        figures["active_fraction"] = float(moved.float().mean())
    return figures


def has_collapsed(figures: dict[str, float], label: str) -> bool:
    """Whether all embeddings of the epoch were equal, which is logged."""
    if figures.get("variance", 1.0) >= COLLAPSED:
        return False
    log.warning(
        "%s: the embedding has collapsed: all samples lie at one point (loss %.4g); lower the "
        "learning rate or choose an easier miner.",
        label,
        figures.get("loss", float("nan")),
    )
    return True


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's generators for one purpose, and restore them afterwards."""
    number = derive_seed(seed, *purpose)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed costs a millisecond where there is no GPU: it records the call stack.
        torch.default_generator.manual_seed(number)
        if devices:
            torch.cuda.manual_seed_all(number)
        yield
