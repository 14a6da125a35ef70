"""A CSV or Parquet file with the columns path, label and, if wanted, group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from oodml.data.dataset import Dataset
from oodml.data.listing import Listing, repeated
from oodml.data.names import as_text
from oodml.data.parquet import parquet_rows
from oodml.data.row_columns import RowColumns
from oodml.data.rows import FIRST, Block, Rows, csv_rows
from oodml.data.samples import Refuse, first_few, quoted, refuse_at_once
from oodml.data.sizes import lookup
from oodml.errors import DataError

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})

_PATIENCE = 2.0  # seconds without a progress bar


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
    twice, and a class with two groups or a single image. Ten million rows take 1.3 GB, and 0.95 GB
    once they are read.
    """
    table = Path(table)
    base = Path(root) if root is not None else table.parent
    if not base.is_dir():
        raise DataError(f"no folder at {base}, from which the paths in {table} would start.")
    is_parquet = table.suffix.lower() == ".parquet"
    rows = parquet_rows(table, refuse) if is_parquet else csv_rows(table, refuse)
    columns = RowColumns(rows.unit)
    with tqdm(desc="list", unit="row", delay=_PATIENCE, disable=not progress) as bar:
        for number in _read(table, base, rows, columns, refuse):
            bar.update(number - bar.n)
    if columns.lost:
        refuse(_missing_error(table, base, columns, str(len(columns))))
    if not columns:
        raise DataError(f"{table} lists no images: it has a header and no rows.")
    listing = _listing(table, base, columns, refuse)
    groups = _groups(table, columns.groups, refuse) if rows.grouped else None
    return listing.dataset(
        name=as_text(table.stem), source=str(table), groups=groups, refuse=refuse
    )


def _read(
    table: Path, base: Path, rows: Rows, columns: RowColumns, refuse: Refuse
) -> Iterator[int]:
    """Fill the columns; from time to time the number of rows so far."""
    with lookup(base) as sizes_of:
        for block in filter(lambda each: each.numbers, rows.blocks):
            before = len(columns)
            _add(table, base, block, sizes_of(block.columns[0]), columns, refuse)
            if before < FIRST <= len(columns) == columns.lost:
                # The paths start elsewhere, and the other rows need no look.
                refuse(_missing_error(table, base, columns, f"the first {len(columns)}"))
            yield len(columns)


def _add(
    table: Path, base: Path, block: Block, sizes: list[int], columns: RowColumns, refuse: Refuse
) -> None:
    places, labels, *groups = block.columns
    columns.add_numbers(block.numbers)
    columns.add_sizes(sizes, places)
    columns.add_names(_names(places, os.fspath(base)), places)
    columns.add_labels(labels)
    if groups:
        _add_groups(table, block, columns, refuse)


def _names(places: list[str], folder: str) -> list[str]:
    """The paths from the folder as text; the very same list if they are written so."""
    whole = " ".join(places)
    odd = any(mark in whole for mark in ("/.", "//", " .", " /"))
    if whole.isascii() and whole.isprintable() and whole[0] not in "./" and not odd:
        return places
    return [_name(place, folder) for place in places]


def _name(place: str, folder: str) -> str:
    """The path from the folder as text; the very same string if it is written so."""
    if place[0] in "./" or "/." in place or "//" in place:
        place = os.path.relpath(os.path.join(folder, place), folder)  # noqa: PTH118
    return as_text(place)


def _add_groups(table: Path, block: Block, columns: RowColumns, refuse: Refuse) -> None:
    _, labels, groups = block.columns
    known = columns.groups
    pairs = dict.fromkeys(zip(labels, groups, strict=True))
    if not [pair for pair in pairs if known.setdefault(*pair) != pair[1]]:
        return
    for number, label, group in zip(block.numbers, labels, groups, strict=True):
        if known[label] != group:
            place = f"{table}, {columns.unit} {number}"
            refuse(_two_groups(place, label, group, known[label]))


def _missing_error(table: Path, base: Path, columns: RowColumns, of: str) -> DataError:
    more = columns.lost - len(columns.missing)
    shown = first_few(columns.missing) + (f" and {more} more" if more else "")
    return DataError(
        f"{table}: {columns.lost} of {of} files do not exist under {base}: {shown}. "
        "Correct the paths, or name the folder they start from as root."
    )


def _listing(table: Path, base: Path, columns: RowColumns, refuse: Refuse) -> Listing:
    twice = repeated(columns.names)
    for row in twice:
        place = f"{table}, {columns.unit} {columns.number(row)}"
        refuse(DataError(f"{place}: {quoted(columns.places[row])} is listed a second time."))
    listing = Listing(
        base,
        list(columns.classes),
        np.frombuffer(columns.labels, np.intc),
        columns.names,
        columns.places,
        np.frombuffer(columns.sizes, np.int64),
    )
    return listing.without(twice) if twice else listing


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
