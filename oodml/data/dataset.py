"""Dataset: a labelled pool of images without a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oodml.data.images import read_image
from oodml.data.paths import chosen

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled pool of images; item `i` is a pair of an RGB image and its class index.

    `class_names` are sorted and unique; `labels` has shape (n,), dtype int64, and indexes them.
    `sample_names` are unique, relative, with forward slashes, sorted within the record's order;
    `paths` say where the files lie on this machine and take no part in the identity.
    `groups`, if known, holds one superclass name per class. `skipped` names broken images that
    were left out on request. `source` is what the user typed, a hint for the next command.
    """

    name: str
    class_names: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    sample_names: tuple[str, ...]
    paths: Sequence[Path]
    sizes: npt.NDArray[np.int64]
    groups: tuple[str, ...] | None = None
    source: str = ""
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return read_image(self.paths[index]), int(self.labels[index])

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over class names, sample names, labels and file sizes, in any order."""
        digest = hashlib.sha256()
        # One class at a time: all lines at once would take more memory than the dataset itself.
        runs = {self.class_names[self.labels[rows[0]]]: rows for rows in by_class(self.labels)}
        for number, class_name in enumerate(sorted(runs)):
            rows = runs[class_name]
            names = map(self.sample_names.__getitem__, rows.tolist())
            lines = sorted(
                f"{class_name}\0{name}\0{size}"
                for name, size in zip(names, self.sizes[rows].tolist(), strict=True)
            )
            text = "\n".join(lines if number == 0 else ["", *lines])
            digest.update(text.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def of_classes(self, class_names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The sample indices, ascending, of the named classes."""
        wanted = set(class_names)
        keep = np.array([name in wanted for name in self.class_names])
        return np.flatnonzero(keep[self.labels])

    def take(self, rows: npt.NDArray[np.int64]) -> Dataset:
        """The samples of some rows, in their order; no class is renumbered, even one left empty.

        `rows` is an int64 array (m,).
        """
        return replace(
            self,
            labels=self.labels[rows],
            sample_names=tuple(self.sample_names[row] for row in rows.tolist()),
            paths=chosen(self.paths, rows),
            sizes=self.sizes[rows],
        )


def by_class(labels: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Per label that occurs, ascending, its rows in ascending order.

    `labels` and what is given are int64 arrays (n,).
    """
    order = np.argsort(labels, kind="stable")
    for start, end in pairwise([0, *np.cumsum(np.bincount(labels)).tolist()]):
        if start < end:
            yield order[start:end]
