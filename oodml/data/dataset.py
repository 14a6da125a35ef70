"""Dataset: a labelled pool of images without a split, and which of its images do not decode."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from oodml.data.image import decoding_error, read_image
from oodml.errors import DataError
from oodml.parallel import in_threads
from oodml.progress import progress_bar
from oodml.text import first_few

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger("oodml")
# A query needs at least one other image of its class to be found.
FEWEST_IMAGES = 2
# What a loader does with a fault it can go on from: raise it, or note it down.
Refuse = Callable[[DataError], None]
_MOST_NAMED = 20


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


class Paths(Sequence[Path]):
    """The paths `root / places[i]`, each made when it is asked for.

    Ten million `Path` objects take 4 GB; the places are as a rule the sample names, which a
    dataset holds anyway.
    """

    __slots__ = ("places", "root")

    def __init__(self, root: str | Path, places: Sequence[str]) -> None:
        self.root = os.fspath(root)
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Paths: ...
    def __getitem__(self, index: int | slice) -> Path | Paths:
        if isinstance(index, slice):
            return Paths(self.root, self.places[index])
        return Path(self.root, self.places[index])


def chosen(paths: Sequence[Path], rows: npt.NDArray[np.int64]) -> Sequence[Path]:
    """The paths of some rows, in their order.

    `rows` is an int64 array (n,).
    """
    if isinstance(paths, Paths):
        return Paths(paths.root, tuple(paths.places[row] for row in rows.tolist()))
    return tuple(paths[row] for row in rows.tolist())


def broken_images(dataset: Dataset, *, progress: bool = False) -> list[tuple[str, str]]:
    """The name of every sample that does not decode, with the reason, in the dataset's order.

    Every file is decoded, in threads: about 5,000 small or 100 photograph-sized files a second.
    """
    bar = progress_bar(
        in_threads(decoding_error, dataset.paths, threads=16),
        total=len(dataset),
        desc="check",
        unit="image",
        disable=not progress,
    )
    return [
        (name, reason)
        for name, reason in zip(dataset.sample_names, bar, strict=True)
        if reason is not None
    ]


def broken_images_error(dataset: Dataset, broken: list[tuple[str, str]]) -> DataError:
    """The `DataError` that counts the broken images, names the first few and says what to do."""
    names = [name for name, _ in broken]
    return DataError(
        f"{dataset.source or dataset.name}: {len(broken)} of {len(dataset)} images do not decode: "
        f"{first_few(names)} (the first: {broken[0][1]}). "
        "Mend or remove them, or skip them with skip_broken."
    )


def without_broken(dataset: Dataset, *, progress: bool = False) -> Dataset:
    """The dataset without the images that do not decode; their names stand in `skipped`.

    Raises `DataError` if a class is left with fewer than two images.
    """
    broken = {name for name, _ in broken_images(dataset, progress=progress)}
    if not broken:
        return dataset
    names = sorted(broken)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    named = ", ".join(names[:_MOST_NAMED])
    logger.warning("%s: skipped %d broken images: %s%s", dataset.name, len(names), named, more)
    keep = np.flatnonzero([name not in broken for name in dataset.sample_names])
    counts = Counter(dict.fromkeys(dataset.class_names, 0))
    counts.update(dataset.class_names[label] for label in dataset.labels[keep])
    check_class_sizes(counts, f"{dataset.source or dataset.name}, {len(names)} broken left out")
    return replace(dataset.take(keep), skipped=(*dataset.skipped, *names))


def refuse_at_once(error: DataError) -> None:
    """Raise the error: the default of every loader."""
    raise error


def check_class_sizes(
    counts: Mapping[str, int], source: str, refuse: Refuse = refuse_at_once
) -> None:
    """Refuse, with a `DataError` that names them, classes of fewer than `FEWEST_IMAGES` images."""
    small = sorted(class_name for class_name, count in counts.items() if count < FEWEST_IMAGES)
    if small:
        refuse(
            DataError(
                f"{source}: {len(small)} of {len(counts)} classes have fewer than {FEWEST_IMAGES} "
                f"usable images: {first_few(small)}. "
                "Add images to them, or take these classes out of the collection."
            )
        )


def groups_of(
    source: object, stated: Iterable[tuple[str, str, str]], refuse: Refuse = refuse_at_once
) -> dict[str, str]:
    """Class names to groups, from triples of class name, group and the place that says so.

    Refuses a class in two groups, and keeps the first; `source` and the place are for the message.
    """
    groups: dict[str, str] = {}
    for class_name, group, place in stated:
        known = groups.setdefault(class_name, group)
        if known != group:
            refuse(
                DataError(
                    f"{source}: {place}: class {class_name!r} is in group {group!r} here and in "
                    f"group {known!r} before."
                )
            )
    return groups
