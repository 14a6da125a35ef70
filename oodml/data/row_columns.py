"""The rows of a table as columns, in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

# Of the files that do not exist, so many are named.
_SHOWN = 5


@dataclass
class RowColumns:
    """What the rows say, a column for each property: ten million rows must fit into memory.

    `places` is the very list `names` as long as every file is called as it is written.
    """

    unit: str
    labels: array[int] = field(default_factory=lambda: array("i"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    names: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    lost: int = 0
    # The rows whose number is not one more than that of the row before, and their numbers.
    jumps: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("q"))

    def __post_init__(self) -> None:
        self.places = self.names

    def __len__(self) -> int:
        return len(self.sizes)

    def number(self, row: int) -> int:
        """Where a row stands in the table."""
        at = bisect_right(self.jumps, row) - 1
        return self.numbers[at] + row - self.jumps[at]

    def add_numbers(self, numbers: Sequence[int]) -> None:
        start = len(self)
        given = np.array(numbers, np.int64)
        expected = self.number(start - 1) + 1 if start else -1
        jumps = np.flatnonzero(np.diff(given, prepend=expected - 1) != 1)
        self.jumps.extend((start + jumps).tolist())
        self.numbers.extend(given[jumps].tolist())

    def add_names(self, names: list[str], places: list[str]) -> None:
        if self.places is self.names and names is not places:
            self.places = list(self.names)
        self.names += names
        if self.places is not self.names:
            self.places += places

    def add_sizes(self, sizes: list[int], places: list[str]) -> None:
        """Negative sizes stand for files that do not exist."""
        if min(sizes) < 0:
            lost = [place for place, size in zip(places, sizes, strict=True) if size < 0]
            self.lost += len(lost)
            self.missing += lost[: _SHOWN - len(self.missing)]
            sizes = [max(size, 0) for size in sizes]
        self.sizes.extend(array("q", sizes))

    def add_labels(self, labels: list[str]) -> None:
        for label in dict.fromkeys(labels):
            self.classes.setdefault(label, len(self.classes))
        self.labels.extend(array("i", [self.classes[label] for label in labels]))
