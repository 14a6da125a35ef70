"""A CSV or Parquet file with the columns path, label and, if wanted, group."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from oodml.data.dataset import Dataset
from oodml.data.listing import Listing, repeated
from oodml.data.names import as_text
from oodml.data.parquet import parquet_rows
from oodml.data.rows import Row, csv_rows
from oodml.data.samples import Refuse, first_few, quoted, refuse_at_once
from oodml.errors import DataError

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})

# If none of so many files exists, the paths start elsewhere, and the other rows need no look.
_PROBES = 1000
_SHOWN = 5
_PATIENCE = 2.0  # seconds without a progress bar


@dataclass
class _Columns:
    """What the rows say, a column for each property: ten million rows must fit into memory."""

    unit: str
    rows: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    names: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)


def load_table(
    table: str | Path,
    *,
    root: str | Path | None = None,
    refuse: Refuse = refuse_at_once,
    progress: bool = False,
) -> Dataset:
    """The images listed in a UTF-8 CSV or a Parquet file: `path,label` and optionally `group`.

    Relative paths start from `root`, by default the table's own folder. A sample is named by its
    path as seen from there, so an absolute path that lies outside makes the fingerprint depend on
    where. A group is a superclass; every class belongs to one. Labels that differ only in how
    Unicode writes an accent are one class. Other columns are ignored. Raises `DataError` for
    missing columns and unreadable files; refuses empty fields, missing files, a path listed
    twice, and a class with two groups or a single image. Ten million rows take 1.7 GB, and 1.0 GB
    once they are read.
    """
    table = Path(table)
    base = Path(root) if root is not None else table.parent
    if not base.is_dir():
        raise DataError(f"no folder at {base}, from which the paths in {table} would start.")
    is_parquet = table.suffix.lower() == ".parquet"
    rows = parquet_rows(table, refuse) if is_parquet else csv_rows(table, refuse)
    columns = _Columns(rows.unit)
    with tqdm(rows.values, desc="list", unit="row", delay=_PATIENCE, disable=not progress) as bar:
        _read(table, base, iter(bar), columns, refuse)
    if not columns.rows:
        raise DataError(f"{table} lists no images: it has a header and no rows.")
    listing = _listing(table, base, columns, refuse)
    groups = _groups(table, columns.groups, refuse) if rows.grouped else None
    return listing.dataset(
        name=as_text(table.stem), source=str(table), groups=groups, refuse=refuse
    )


def _read(table: Path, base: Path, rows: Iterator[Row], columns: _Columns, refuse: Refuse) -> None:
    folder = os.fspath(base)
    missing: list[str] = []
    lost = 0
    for row, (place, label, *group) in rows:
        size = _size(folder, place)
        if size < 0:
            lost += 1
            missing += [place] if lost <= _SHOWN else []
            if lost == len(columns.rows) + 1 == _PROBES:
                refuse(_missing_error(table, base, missing, lost, f"the first {_PROBES}"))
        columns.rows.append(row)
        columns.sizes.append(max(size, 0))
        columns.labels.append(columns.classes.setdefault(label, len(columns.classes)))
        columns.names.append(_name(place, folder))
        columns.places.append(place)
        if group and columns.groups.setdefault(label, group[0]) != group[0]:
            known = columns.groups[label]
            refuse(_two_groups(f"{table}, {columns.unit} {row}", label, group[0], known))
    if lost:
        refuse(_missing_error(table, base, missing, lost, str(len(columns.rows))))


def _size(folder: str, place: str) -> int:
    """The size of the file, -1 if there is none."""
    try:
        status = os.stat(f"{folder}/{place}" if place[0] != "/" else place)  # noqa: PTH116
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _name(place: str, folder: str) -> str:
    """The path from the folder as text; the very same string if it is written so."""
    if place[0] in "./" or "/." in place or "//" in place:
        place = os.path.relpath(os.path.join(folder, place), folder)  # noqa: PTH118
    return as_text(place)


def _missing_error(table: Path, base: Path, shown: list[str], count: int, of: str) -> DataError:
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return DataError(
        f"{table}: {count} of {of} files do not exist under {base}: {first_few(shown)}{more}. "
        "Correct the paths, or name the folder they start from as root."
    )


def _listing(table: Path, base: Path, columns: _Columns, refuse: Refuse) -> Listing:
    twice = repeated(columns.names)
    for at in twice:
        place = f"{table}, {columns.unit} {columns.rows[at]}"
        refuse(DataError(f"{place}: {quoted(columns.places[at])} is listed a second time."))
    keep = np.ones(len(columns.names), bool)
    keep[twice] = False
    names, places = columns.names, columns.places
    if twice:
        names, places = ([each[row] for row in np.flatnonzero(keep)] for each in (names, places))
    labels = np.array(columns.labels, np.int64)[keep]
    sizes = np.array(columns.sizes, np.int64)[keep]
    return Listing(base, list(columns.classes), labels, names, places, sizes)


def _groups(table: Path, given: dict[str, str], refuse: Refuse) -> dict[str, str]:
    """Superclasses by class, both as text; ways to write one class must agree on its group."""
    groups: dict[str, str] = {}
    for label, group in given.items():
        class_name, text = as_text(label), as_text(group)
        if groups.setdefault(class_name, text) != text:
            refuse(_two_groups(str(table), class_name, text, groups[class_name]))
    return groups


def _two_groups(where: str, label: str, group: str, known: str) -> DataError:
    first, second = f"in group {quoted(group)} here", f"in group {quoted(known)} before"
    return DataError(
        f"{where}: class {quoted(label)} is {first} and {second}. Give every class one group."
    )
