"""The rows of a CSV file, in any number, each of them checked."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from oodml.data.lines import lines_of
from oodml.data.samples import Refuse
from oodml.errors import DataError

_REQUIRED = ("path", "label")
_OPTIONAL = ("group",)
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")

# What is looked at before a long file is read on, and then at a time.
FIRST = 1000
_BLOCK = 1 << 11


@dataclass(frozen=True)
class Block:
    """Some rows, one after the other: where each stands, and a column for each property.

    The columns are path, label and, if there is one, group; no value is empty.
    """

    numbers: Sequence[int]
    columns: list[list[str]]


@dataclass(frozen=True)
class Rows:
    """Rows as they are read; `unit` is what their numbers count, such as lines."""

    unit: str
    grouped: bool
    blocks: Iterator[Block]


def csv_rows(table: Path, refuse: Refuse) -> Rows:
    """The rows of a UTF-8 CSV with a header and the columns path, label and perhaps group.

    White space around values is dropped, empty lines and other columns are ignored. Refuses rows
    with an empty value or too many fields. Raises `DataError` for what is no such CSV.
    """
    _check_encoding(table)
    file = table.open("rb")
    reader = csv.reader(lines_of(file), strict=True)
    try:
        header = next(reader, [])
        wanted = _columns(table, header)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        file.close()
        raise _unreadable(table, reader.line_num, error) from None
    blocks = _blocks(table, file, reader, _Form(wanted, len(header)), refuse)
    return Rows("line", len(wanted) > len(_REQUIRED), blocks)


def wanted_columns(table: Path, names: Sequence[str]) -> list[int]:
    """Where path, label and, if there is one, group stand; `DataError` if one lacks or is twice."""
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        found = ", ".join(repr(name) for name in names) or "none"
        raise DataError(
            f"{table} has no column {' and no column '.join(map(repr, missing))}; its columns: "
            f"{found[:300]}. Needed are path,label and optionally group.{_separator_hint(names)}"
        )
    for name in (*_REQUIRED, *_OPTIONAL):
        if list(names).count(name) > 1:
            raise DataError(f"{table} has two columns named {name!r}. Rename one of them.")
    return [list(names).index(name) for name in (*_REQUIRED, *_OPTIONAL) if name in names]


def first_empty(values: Sequence[str]) -> str | None:
    """The name of the first column without a value."""
    names = (*_REQUIRED, *_OPTIONAL)
    return next((name for name, value in zip(names, values, strict=False) if not value), None)


def _check_encoding(table: Path) -> None:
    try:
        with table.open("rb") as file:
            head = file.read(1000)
    except OSError as error:
        raise DataError(f"cannot read {table}: {error.strerror}.") from None
    if head.startswith(_WIDE_MARKS) or b"\0" in head:
        raise DataError(
            f"{table} is not a readable UTF-8 CSV file: it holds NUL bytes, as UTF-16 does. Save "
            "it as 'CSV UTF-8'."
        )


def _columns(table: Path, header: list[str]) -> list[int]:
    return wanted_columns(table, [name.strip() for name in header])


def _separator_hint(names: Sequence[str]) -> str:
    for separator, word in _SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            return f" Its columns are separated by {word}; save it with commas."
    return ""


@dataclass(frozen=True)
class _Form:
    """Which fields are wanted, and how many there are at most."""

    wanted: list[int]
    width: int


def _blocks(
    table: Path, file: IO[bytes], reader: Any, form: _Form, refuse: Refuse
) -> Iterator[Block]:
    line = 1
    with file:
        for most in chain([FIRST], repeat(_BLOCK)):
            lines, rows, failure = _some(reader, most)
            line = lines[-1] if lines else line
            if lines:
                yield from _block(table, lines, rows, form, refuse)
            if failure is not None:
                raise _unreadable(table, line, failure) from None
            if len(lines) < most:
                return


def _some(reader: Any, most: int) -> tuple[array[int], list[list[str]], Exception | None]:
    """The next rows with the lines where they end, and what stopped the reader before the end."""
    lines: array[int] = array("q")
    rows: list[list[str]] = []
    try:
        for fields in islice(reader, most):
            rows.append(fields)
            lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return lines, rows, error
    return lines, rows, None


def _block(
    table: Path, lines: array[int], rows: list[list[str]], form: _Form, refuse: Refuse
) -> Iterator[Block]:
    if set(map(len, rows)) == {form.width}:
        columns = [list(map(str.strip, map(itemgetter(at), rows))) for at in form.wanted]
        if all(map(all, columns)):
            yield Block(lines, columns)
            return
    numbered: list[tuple[int, list[str]]] = []
    refused = False
    for line, fields in zip(lines, rows, strict=True):
        values = [fields[at].strip() if at < len(fields) else "" for at in form.wanted]
        fault = _fault(fields, form.width, values) if fields else None
        if fault is None:
            numbered += [(line, values)] if fields else []
            continue
        if not refused:  # what is wrong with the rows before it is to be told first
            yield block_of(numbered, len(form.wanted))
            numbered, refused = [], True
        refuse(DataError(f"{table}, line {line}: {fault}"))
    yield block_of(numbered, len(form.wanted))


def block_of(rows: Sequence[tuple[int, list[str]]], width: int) -> Block:
    """The rows, each with its number, as columns, of which there are `width`."""
    columns = [[values[at] for _, values in rows] for at in range(width)]
    return Block([number for number, _ in rows], columns)


def _fault(fields: list[str], width: int, values: list[str]) -> str | None:
    if len(fields) > width:
        return "more fields than columns. Quote text with commas."
    if all(values):
        return None
    return f"the {first_empty(values)} is empty."


def _unreadable(table: Path, line: int, error: Exception) -> DataError:
    reason = str(error)
    if isinstance(error, UnicodeDecodeError):
        reason = f"the byte 0x{error.object[error.start]:02x} is not UTF-8; save it as 'CSV UTF-8'"
    elif isinstance(error, csv.Error):
        reason += "; is a quote left open?"
    return DataError(f"{table} is not a readable UTF-8 CSV file: after line {line}: {reason}.")
