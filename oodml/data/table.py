"""A CSV file with the columns path, label and, if wanted, group."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from oodml.data.dataset import Dataset
from oodml.data.samples import Refuse, Sample, dataset_of, first_few, refuse_at_once
from oodml.errors import DataError

_REQUIRED = ("path", "label")


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    group: str | None


def load_table(
    table: str | Path, *, root: str | Path | None = None, refuse: Refuse = refuse_at_once
) -> Dataset:
    """The images listed in a UTF-8 CSV with a header: `path,label` and optionally `group`.

    Relative paths start from `root`, by default the CSV's own folder. A sample is named by its
    path as seen from there, so an absolute path that lies outside makes the fingerprint depend on
    where. A group is a superclass; every class belongs to one. Other columns are ignored. Raises
    `DataError` for missing columns, empty fields, missing files, a path listed twice, or a class
    with two groups or a single image; all but missing columns are handed to `refuse`.
    """
    table = Path(table)
    base = Path(root) if root is not None else table.parent
    if not base.is_dir():
        raise DataError(f"no folder at {base}, from which the paths in {table} would start.")
    rows = list(_rows(table, refuse))
    if not rows:
        raise DataError(f"{table} lists no images: it has a header and no rows.")
    return dataset_of(
        _samples(table, base, rows, refuse),
        name=table.stem,
        source=str(table),
        groups=_groups(table, rows, refuse),
        refuse=refuse,
    )


def _rows(table: Path, refuse: Refuse) -> Iterator[_Row]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = _columns(table, reader.fieldnames)
            for fields in reader:
                row = _row(table, reader.line_num, columns, fields, refuse)
                if row is not None:
                    yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} is not a readable UTF-8 CSV file ({error}).") from None


def _columns(table: Path, header: Sequence[str] | None) -> dict[str, str]:
    columns = {name.strip(): name for name in header or ()}
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        found = ", ".join(repr(name) for name in columns) or "none"
        raise DataError(
            f"{table} has no column {' and no column '.join(map(repr, missing))}; its columns: "
            f"{found}. The first line must name path,label and optionally group."
        )
    return columns


def _row(
    table: Path, line: int, columns: dict[str, str], fields: dict[str, str], refuse: Refuse
) -> _Row | None:
    if None in fields:
        refuse(
            DataError(f"{table}, line {line}: more fields than columns. Quote text with commas.")
        )
        return None
    values = {
        name: (fields[columns[name]] or "").strip()
        for name in (*_REQUIRED, "group")
        if name in columns
    }
    for name, value in values.items():
        if not value:
            refuse(DataError(f"{table}, line {line}: the {name} is empty."))
            return None
    return _Row(line, values["path"], values["label"], values.get("group"))


def _samples(table: Path, base: Path, rows: list[_Row], refuse: Refuse) -> list[Sample]:
    samples: dict[str, Sample] = {}
    missing: list[str] = []
    for row in rows:
        path = base / row.path
        name = Path(os.path.relpath(path, base)).as_posix()
        if name in samples:
            refuse(DataError(f"{table}, line {row.line}: {row.path!r} is listed a second time."))
            continue
        size = _size(path)
        if size is None:
            missing.append(row.path)
        samples[name] = Sample(row.label, name, path, size or 0)
    if missing:
        refuse(
            DataError(
                f"{table}: {len(missing)} of {len(rows)} files do not exist under {base}: "
                f"{first_few(missing)}. Correct the paths, or name the folder they start from as "
                "root."
            )
        )
    return list(samples.values())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return None


def _groups(table: Path, rows: list[_Row], refuse: Refuse) -> dict[str, str] | None:
    groups: dict[str, str] = {}
    for row in rows:
        if row.group is None:
            return None
        known = groups.setdefault(row.label, row.group)
        if known != row.group:
            refuse(
                DataError(
                    f"{table}, line {row.line}: class {row.label!r} is in group {row.group!r} here "
                    f"and in group {known!r} before. Give every class one group."
                )
            )
    return groups
