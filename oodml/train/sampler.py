"""Class-balanced batches, seeded by (seed, epoch) and never by global state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.seeding import generator

Indices = npt.NDArray[np.int64]


class BalancedBatches:
    """Batches of `batch_size // samples_per_class` classes with equally many samples each.

    `labels` has shape (n,). An epoch is n // batch_size batches (at least one). Classes are
    drawn without replacement within a batch, samples without replacement as long as the class
    has enough; a smaller class repeats samples. Classes with a single sample take part too.
    Raises `DataError` when a batch would hold a single class.
    """

    def __init__(
        self, labels: npt.NDArray[np.int64], batch_size: int, samples_per_class: int, *, seed: int
    ) -> None:
        order = np.argsort(labels, kind="stable")
        borders = np.flatnonzero(np.diff(labels[order])) + 1
        self.members: list[Indices] = np.split(order, borders)
        self.samples_per_class = samples_per_class
        self.classes_per_batch = min(batch_size // samples_per_class, len(self.members))
        self.batches = max(1, len(labels) // batch_size)
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
