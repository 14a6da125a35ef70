"""Batches, class-balanced or shuffled, seeded by (seed, epoch) and never by global state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError, unknown_name
from oodml.runs.spec import TrainingSpec
from oodml.seeding import generator

Indices = npt.NDArray[np.int64]
KINDS = ("balanced", "shuffled")


class Batches(Protocol):
    """The number of batches per epoch, and an epoch's index arrays, the same for the same seed."""

    batches: int

    def epoch(self, epoch: int) -> Iterator[Indices]: ...


def batches_for(settings: TrainingSpec, labels: Indices, *, seed: int) -> Batches:
    """The batches that a run's settings ask for, of samples with labels (n,).

    Raises `UsageError` for another kind of batches than "balanced" and "shuffled".
    """
    size, batches = settings.batch_size, settings.epoch_steps
    if settings.batches == "balanced":
        each = settings.samples_per_class
        return BalancedBatches(labels, size, each, seed=seed, batches=batches)
    if settings.batches == "shuffled":
        return ShuffledBatches(labels, size, seed=seed, batches=batches)
    raise unknown_name("kind of batches", settings.batches, KINDS)


class BalancedBatches:
    """Batches of `batch_size // samples_per_class` classes with equally many samples each.

    `labels` is (n,). An epoch has `batches` of them, or n // batch_size. Classes are drawn without
    replacement within a batch, samples without replacement as long as the class has enough; a
    smaller class repeats samples. Classes with a single sample take part too. Raises `DataError`
    when a batch would hold a single class.
    """

    def __init__(
        self,
        labels: Indices,
        batch_size: int,
        samples_per_class: int,
        *,
        seed: int,
        batches: int = 0,
    ) -> None:
        order = np.argsort(labels, kind="stable")
        borders = np.flatnonzero(np.diff(labels[order])) + 1
        self.members: list[Indices] = np.split(order, borders)
        self.samples_per_class = samples_per_class
        self.classes_per_batch = min(batch_size // samples_per_class, len(self.members))
        self.batches = batches or max(1, len(labels) // batch_size)
        self.seed = seed
        if self.classes_per_batch < 2:
            raise DataError(
                f"a batch of {batch_size} with {samples_per_class} samples a class, from "
                f"{len(self.members)} training classes, holds fewer than 2 classes."
            )

    def epoch(self, epoch: int) -> Iterator[Indices]:
        """The index arrays of one epoch; the same for the same seed and epoch."""
        random = generator(self.seed, "sampler", epoch)
        for _ in range(self.batches):
            chosen = random.choice(len(self.members), self.classes_per_batch, replace=False)
            yield np.concatenate([self._draw(random, self.members[c]) for c in chosen])

    def _draw(self, random: np.random.Generator, members: Indices) -> Indices:
        too_few = len(members) < self.samples_per_class
        drawn: Indices = random.choice(members, self.samples_per_class, replace=too_few)
        return drawn


class ShuffledBatches:
    """All samples in a random order, cut into batches; an incomplete last batch is dropped.

    An epoch has `batches` of them, passing over the samples as often as needed, or n // batch_size.
    Fewer samples than `batch_size` make one batch of all. Raises `DataError` for fewer than 2.
    """

    def __init__(self, labels: Indices, batch_size: int, *, seed: int, batches: int = 0) -> None:
        self.count = len(labels)
        self.batch_size = min(batch_size, self.count)
        self.a_pass = self.count // max(self.batch_size, 1)
        self.batches = batches or self.a_pass
        self.seed = seed
        if self.batch_size < 2:
            raise DataError(f"a batch of {self.batch_size} has no pair of samples; give 2 or more.")

    def epoch(self, epoch: int) -> Iterator[Indices]:
        """The index arrays of one epoch; no sample is repeated within a pass."""
        random = generator(self.seed, "shuffle", epoch)
        order: Indices = np.empty(0, dtype=np.int64)
        for batch in range(self.batches):
            place = batch % self.a_pass
            if place == 0:
                order = random.permutation(self.count)
            yield order[place * self.batch_size : (place + 1) * self.batch_size]
