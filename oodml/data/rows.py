"""The rows of a CSV file, in any number, checked one by one."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from oodml.data.samples import Refuse
from oodml.errors import DataError

_REQUIRED = ("path", "label")
_OPTIONAL = ("group",)
# A line without an end would be read into memory whole.
_LONGEST_LINE = 1 << 20
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")

# Where it stands, and the values of path, label and, if there is one, group.
Row = tuple[int, list[str]]


@dataclass(frozen=True)
class Rows:
    """Rows as they are read; `unit` is what their numbers count, such as lines."""

    unit: str
    grouped: bool
    values: Iterator[Row]


def csv_rows(table: Path, refuse: Refuse) -> Rows:
    """The rows of a UTF-8 CSV with a header and the columns path, label and perhaps group.

    White space around values is dropped, empty lines and other columns are ignored. Refuses rows
    with an empty value or too many fields. Raises `DataError` for what is no such CSV.
    """
    _check_encoding(table)
    file = _opened(table)
    reader = csv.reader(_lines(file), strict=True)
    try:
        header = next(reader, [])
        wanted = _columns(table, header)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        file.close()
        raise _unreadable(table, reader.line_num, error) from None
    values = _values(table, file, reader, wanted, len(header), refuse)
    return Rows("line", len(wanted) > len(_REQUIRED), values)


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


def _opened(table: Path) -> TextIOWrapper:
    return table.open(encoding="utf-8-sig", newline="")


def _lines(file: TextIOWrapper) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and line[-1] not in "\r\n":
            raise csv.Error(f"a line of more than {_LONGEST_LINE:,} characters")
        yield line


def _columns(table: Path, header: list[str]) -> list[int]:
    return wanted_columns(table, [name.strip() for name in header])


def _separator_hint(names: Sequence[str]) -> str:
    for separator, word in _SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            return f" Its columns are separated by {word}; save it with commas."
    return ""


def _values(
    table: Path,
    file: TextIOWrapper,
    reader: Iterator[list[str]],
    wanted: list[int],
    width: int,
    refuse: Refuse,
) -> Iterator[Row]:
    line = 1
    try:
        with file:
            for fields in reader:
                line = reader.line_num  # type: ignore[attr-defined]
                if not fields:
                    continue
                values = [fields[at].strip() if at < len(fields) else "" for at in wanted]
                fault = _fault(fields, width, values)
                if fault is None:
                    yield line, values
                else:
                    refuse(DataError(f"{table}, line {line}: {fault}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(table, line, error) from None


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
