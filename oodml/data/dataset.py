"""Dataset: a labelled pool of images without a split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oodml.data.images import read_image

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
    paths: tuple[Path, ...]
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
        lines = sorted(
            f"{self.class_names[label]}\0{name}\0{size}"
            for label, name, size in zip(self.labels, self.sample_names, self.sizes, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def of_classes(self, class_names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The sample indices, ascending, of the named classes."""
        wanted = set(class_names)
        keep = np.array([name in wanted for name in self.class_names])
        return np.flatnonzero(keep[self.labels])
