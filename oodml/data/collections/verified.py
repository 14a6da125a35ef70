"""Load a collection and compare what came with what it must hold."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oodml.data.collections.registry import Collection, root_of
from oodml.data.collections.state import is_extracted, unfinished
from oodml.data.dataset import Dataset
from oodml.data.samples import Refuse, first_few, refuse_at_once
from oodml.errors import DataError


@dataclass(frozen=True)
class Counts:
    """Classes and images of a collection: as published, None where that is unknown, and as found.

    Found are files that are not empty and classes that have one.
    """

    expected_classes: int | None
    found_classes: int
    expected_images: int | None
    found_images: int

    @property
    def right(self) -> bool:
        """True if nothing that is known is another number than was found."""
        return self.expected_classes in (None, self.found_classes) and self.expected_images in (
            None,
            self.found_images,
        )


def load_collection(
    collection: Collection,
    root: str | Path | None = None,
    *,
    refuse: Refuse = refuse_at_once,
) -> Dataset:
    """The whole collection as a pool, its classes and images counted against those published.

    `root` is the folder that holds the collection's folder, or that folder itself (see
    `root_of`). Nothing is downloaded. Raises `DataError`, which says what to type, if the lists
    are not there or damaged; refuses images that are listed and not there, and other numbers than
    the published ones.
    """
    place = root_of(collection, root)
    home = find_home(collection, place)
    try:
        dataset = collection.load(home)
    except DataError as error:
        raise _advised(error, collection, place) from None

    def refuse_with_advice(error: DataError) -> None:
        refuse(_advised(error, collection, place))

    _check_files(collection, dataset, home, refuse_with_advice)
    check_counts(collection, dataset, home, refuse_with_advice)
    return replace(dataset, name=collection.name, source=collection.name)


def _advised(error: DataError, collection: Collection, place: Path) -> DataError:
    state = unfinished(collection, place)
    also = f" Moreover, {state}." if state else ""
    return DataError(f"{error}{also} {what_to_do(collection, place)}")


def find_home(collection: Collection, root: Path) -> Path:
    """The folder under `root`, or `root` itself, that holds all landmarks of a collection."""
    homes = [root / collection.folder, root] if collection.folder else [root]
    missing = {
        home: [mark for mark in collection.landmarks if not (home / mark).exists()]
        for home in homes
    }
    for home in homes:
        if home.is_dir() and not missing[home]:
            return home
    raise DataError(f"{_what_is_there(collection, root, missing)} {what_to_do(collection, root)}")


def _what_is_there(collection: Collection, root: Path, missing: dict[Path, list[str]]) -> str:
    state = unfinished(collection, root)
    if state:
        return f"{collection.name} at {root} is not whole: {state}."
    home = min(missing, key=lambda each: (not each.is_dir(), len(missing[each])))
    if home.is_dir() and 0 < len(missing[home]) < len(collection.landmarks):
        return f"{collection.name} at {home} is not whole: it lacks {', '.join(missing[home])}."
    first = next(iter(missing))
    marks = ", ".join(str(first / mark) for mark in collection.landmarks) or first
    return f"there is no {collection.name} at {root}: it would hold {marks}."


def what_to_do(collection: Collection, root: Path) -> str:
    """The sentence that tells how to get the collection's files to `root`."""
    command = f"oodml dataset download {collection.name} --root {shlex.quote(str(root))}"
    if not collection.archives:
        return collection.how_to_get
    if all(is_extracted(archive, root) for archive in collection.archives):
        return f"Remove what lies there, then type: {command}"
    return " ".join(filter(None, [collection.how_to_get, f"Type: {command}"]))


def _check_files(collection: Collection, dataset: Dataset, home: Path, refuse: Refuse) -> None:
    absent = [dataset.sample_names[row] for row in np.flatnonzero(dataset.sizes == 0)]
    if absent:
        listed = len(dataset) + len(dataset.skipped)
        refuse(
            DataError(
                f"{home}: {len(absent)} of {listed} images that {collection.name} lists are "
                f"missing or empty: {first_few(sorted(absent))}."
            )
        )


def check_counts(
    collection: Collection, dataset: Dataset, home: Path, refuse: Refuse = refuse_at_once
) -> None:
    """Refuse classes or images that are not as many as the collection must have."""
    counts = count(collection, dataset)
    if not counts.right:
        classes = counts.expected_classes or counts.found_classes
        images = counts.expected_images or counts.found_images
        refuse(
            DataError(
                f"{home} holds {counts.found_classes:,} classes and {counts.found_images:,} "
                f"images; {collection.name} must have {classes:,} classes and {images:,} images."
            )
        )


def count(collection: Collection, dataset: Dataset) -> Counts:
    """How many classes and images a collection must have, and has.

    Classes that were left out because of their single image count as there.
    """
    there = dataset.sizes > 0
    single = len(dataset.skipped)
    return Counts(
        collection.classes,
        len(np.unique(dataset.labels[there])) + single,
        collection.images,
        int(there.sum()) + single,
    )
