"""A hold-out within the training classes: which samples, and the batches of the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.seeding import generator
from oodml.train.batches import Batches

Indices = npt.NDArray[np.int64]
# A class needs two samples to be found, and two to be trained on.
PAIR = 2


def held_out(labels: Indices, share: float, most: int, seed: int) -> Indices:
    """The rows (h,) that are held out of samples with labels (n,), in ascending order.

    Of every class a `share`, but two samples at least and two left; no more than `most` in all,
    spread over as many classes as have room. The same for the same labels and seed. Raises
    `DataError` where that leaves fewer than two classes.
    """
    random = generator(seed, "hold-out")
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    largest = max(PAIR, most // len(members))
    held: list[Indices] = []
    room = most
    for number in random.permutation(len(members)):
        own = members[number]
        count = min(max(PAIR, round(share * len(own))), largest)
        if len(own) >= count + PAIR and count <= room:
            held.append(random.choice(own, count, replace=False))
            room -= count
    if len(held) < PAIR:
        raise DataError(
            f"{len(held)} of {len(members)} training classes have the 4 samples that a hold-out of "
            "2 needs; 2 classes or more are needed."
        )
    return np.sort(np.concatenate(held))


class BatchesAmong:
    """Batches of some samples, `rows`, as index arrays into all of them."""

    def __init__(self, rows: Indices, of_rows: Batches) -> None:
        self.rows = rows
        self.of_rows = of_rows
        self.batches = of_rows.batches

    def epoch(self, epoch: int) -> Iterator[Indices]:
        """The index arrays of one epoch."""
        for index in self.of_rows.epoch(epoch):
            yield self.rows[index]
