"""Load a collection and compare what came with what it must hold."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from oodml.data.collections.collection import Collection, root_of
from oodml.data.collections.state import is_extracted, unfinished
from oodml.data.dataset import Dataset
from oodml.errors import DataError


def load_collection(collection: Collection, root: str | Path | None = None) -> Dataset:
    """The whole collection as a pool, its classes and images counted against those published.

    `root` is the folder that holds the collection's folder, or that folder itself (see
    `root_of`). Nothing is downloaded. Raises `DataError`, which says what to type, if the files
    are not there, or only in part, or not in the published number.
    """
    place = root_of(collection, root)
    home = find_home(collection, place)
    try:
        dataset = collection.load(home)
        check_counts(collection, dataset, home)
    except DataError as error:
        state = unfinished(collection, place)
        also = f" Moreover, {state}." if state else ""
        raise DataError(f"{error}{also} {what_to_do(collection, place)}") from None
    return replace(dataset, name=collection.name, source=collection.name)


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


def check_counts(collection: Collection, dataset: Dataset, home: Path) -> None:
    """Raise a `DataError` if classes or images are not as many as the collection must have.

    Classes that were left out because of their single image count as there.
    """
    single = len(dataset.skipped)
    found = (len(dataset.class_names) + single, len(dataset) + single)
    wanted = (collection.classes or found[0], collection.images or found[1])
    if found != wanted:
        raise DataError(
            f"{home} holds {found[0]:,} classes and {found[1]:,} images; {collection.name} must "
            f"have {wanted[0]:,} classes and {wanted[1]:,} images."
        )
