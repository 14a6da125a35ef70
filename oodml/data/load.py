"""load_dataset: a Dataset from a name, a folder, a table or a Hugging Face address."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from oodml.data.collections.download import load_collection
from oodml.data.collections.registry import all_collections, find_collection
from oodml.data.dataset import Dataset, Refuse, refuse_at_once, without_broken
from oodml.data.folder import load_folder
from oodml.data.hugging_face import PREFIX, load_hugging_face
from oodml.data.table import TABLE_SUFFIXES, load_table
from oodml.errors import DataError, UsageError, closest_names, did_you_mean, suggestion


def collection_names() -> list[tuple[str, str]]:
    """The named collections, sorted, each with a one-line description."""
    return [(name, each.description) for name, each in all_collections().items()]


def load_dataset(
    source: str | Path,
    *,
    root: str | Path | None = None,
    skip_broken: bool = False,
    progress: bool = False,
) -> Dataset:
    """The labelled pool of images that `source` names, sorted by class name, then sample name.

    `source` is a named collection (`emoji`), a folder of class folders, a CSV or Parquet file with
    the columns `path,label[,group]`, whose relative paths start from `root`, or a Hugging Face
    dataset such as `hf:OWNER/NAME` (see `load_hugging_face`), whose images are kept in `root`. A
    folder that bears a collection's name is reached as `./emoji`. Images are decoded when they are
    used; with `skip_broken` all are decoded now, in threads, and those that fail are left out and
    listed in `Dataset.skipped`. Raises `DataError` if the data cannot be used as they are,
    `UsageError` if the name is unknown.
    """
    dataset = replace(_load(source, root, progress=progress), source=str(source))
    return without_broken(dataset, progress=progress) if skip_broken else dataset


def list_dataset(
    source: str | Path, *, root: str | Path | None = None, progress: bool = False
) -> tuple[Dataset, tuple[str, ...]]:
    """The pool that `source` names as it is, and what `load_dataset` refuses it for.

    Classes without images are listed and files that do not exist have size 0. Raises what
    `load_dataset` raises where there is no pool at all: no such folder, no columns, no rows, a
    collection without its lists.
    """
    refused: list[str] = []
    dataset = _load(source, root, lambda error: refused.append(str(error)), progress)
    return replace(dataset, source=str(source)), tuple(refused)


def _load(
    source: str | Path,
    root: str | Path | None,
    refuse: Refuse = refuse_at_once,
    progress: bool = False,
) -> Dataset:
    if isinstance(source, str) and source in all_collections():
        return load_collection(find_collection(source), root, refuse=refuse)
    if isinstance(source, str) and source.startswith(PREFIX):
        return load_hugging_face(source, root=root, refuse=refuse)
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - Path's raises for unknown users
    if path.is_file():
        return _load_file(path, root, refuse, progress)
    if path.is_dir():
        if root is not None:
            raise UsageError(f"root is for CSV files and named collections; {path} is a folder.")
        return load_folder(path, refuse=refuse, progress=progress)
    text = str(source)
    if isinstance(source, Path) or "/" in text or path.suffix.lower() in TABLE_SUFFIXES:
        raise DataError(
            f"there is no file or folder {text}.{did_you_mean(_nearest_beside(path))} Give a "
            "folder that holds one folder per class, or a table with the columns path,label."
        )
    hint = suggestion(text, [*_nearest_beside(path), *all_collections()])
    raise UsageError(f"there is no file or folder {text!r}, and no collection of that name.{hint}")


def _nearest_beside(path: Path) -> list[str]:
    """The folder or table in the same folder whose name is closest, if one is close."""
    try:
        beside = sorted(path.parent.iterdir())
    except (OSError, ValueError):
        return []
    usable = [each for each in beside if each.is_dir() or each.suffix.lower() in TABLE_SUFFIXES]
    close = closest_names(path.name, [each.name for each in usable])
    return [str(path.with_name(name)) for name in close[:1]]


def _load_file(path: Path, root: str | Path | None, refuse: Refuse, progress: bool) -> Dataset:
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(
            f"{path} is neither a folder nor a .csv file nor a .parquet file. Give a folder that "
            "holds one folder per class, or a table with the columns path,label."
        )
    return load_table(path, root=root, refuse=refuse, progress=progress)
