"""Load a CSV or Parquet file with the columns path, label and, optionally, group."""

from __future__ import annotations

import csv
import os
import stat
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import chain, count, islice, repeat
from pathlib import Path
from typing import IO, Any

import numpy as np

from oodml.data.dataset import Dataset, Refuse, refuse_at_once
from oodml.data.listing import Listing, repeated
from oodml.errors import DataError
from oodml.progress import progress_bar
from oodml.text import as_text, first_few, quoted

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})

_REQUIRED = ("path", "label")
_COLUMNS = (*_REQUIRED, "group")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
# Characters; more of a line are taken for a row of their own, not read into memory.
_LONGEST_LINE = 1 << 20
# Rows whose files are looked up before a long table is read on, and then at a time.
_FIRST, _BLOCK = 1000, 1 << 14
_BATCH = 1 << 16
# On a network file system, each lookup waits for an answer.
_THREADS = 8
_PATIENCE = 2.0  # seconds without a progress bar
_SHOWN = 5

# A row's number, its path, its label and perhaps its group, none of them empty.
Row = tuple[int, list[str]]


@dataclass
class _Rows:
    """The rows of a table; `unit` is what their numbers count. Groups are filled on reading."""

    unit: str
    rows: Iterator[Row]
    groups: dict[str, str] | None = None


@dataclass
class _Found:
    """The rows in columns, compact enough for ten million of them.

    `places` is the same list as `names` until a path differs from its normal form.
    """

    numbers: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("i"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    names: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    lost: int = 0

    def __post_init__(self) -> None:
        self.places = self.names

    def add(self, names: list[str], places: list[str]) -> None:
        same = all(name is place for name, place in zip(names, places, strict=True))
        if self.places is self.names and not same:
            self.places = list(self.names)
        self.names += names
        if self.places is not self.names:
            self.places += places


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
    twice, and a class with two groups or a single image.
    """
    table = Path(table)
    base = Path(root) if root is not None else table.parent
    if not base.is_dir():
        raise DataError(f"no folder at {base}, from which the paths in {table} would start.")
    is_parquet = table.suffix.lower() == ".parquet"
    rows = _parquet_rows(table, refuse) if is_parquet else _csv_rows(table, refuse)
    with progress_bar(desc="list", unit="row", delay=_PATIENCE, disable=not progress) as bar:
        found = _look_up(table, base, rows, refuse, bar)
    listing = _listing(table, base, rows.unit, found, refuse)
    groups = None if rows.groups is None else _as_texts(table, rows.groups, refuse)
    return listing.dataset(
        name=as_text(table.stem), source=str(table), groups=groups, refuse=refuse
    )


def _look_up(table: Path, base: Path, rows: _Rows, refuse: Refuse, bar: Any) -> _Found:
    """All rows, each file's size looked up; files that do not exist have size 0."""
    found = _Found()
    folder = os.fspath(base)
    checked = _grouped(table, rows, refuse)
    with _sizes_below(base) as sizes_of:
        for most in chain([_FIRST], repeat(_BLOCK)):
            block = list(islice(checked, most))
            places = [values[0] for _, values in block]
            sizes = sizes_of(places)
            lost = [place for place, size in zip(places, sizes, strict=True) if size < 0]
            found.lost += len(lost)
            found.missing += lost[: _SHOWN - len(found.missing)]
            found.numbers.extend(number for number, _ in block)
            found.sizes.extend(max(size, 0) for size in sizes)
            found.add([_name(place, folder) for place in places], places)
            found.labels.extend(
                found.classes.setdefault(values[1], len(found.classes)) for _, values in block
            )
            bar.update(len(block))
            if len(block) < most:
                break
            if len(found.sizes) == found.lost == _FIRST:  # root is wrong
                refuse(_missing_error(table, base, found, f"the first {_FIRST}"))
    if found.lost:
        refuse(_missing_error(table, base, found, str(len(found.sizes))))
    if not found.sizes:
        raise DataError(f"{table} lists no images: it has a header and no rows.")
    return found


def _grouped(table: Path, rows: _Rows, refuse: Refuse) -> Iterator[Row]:
    """The rows; each class's group is noted, and refused where it is another than before."""
    groups = rows.groups
    if groups is None:
        yield from rows.rows
        return
    for number, values in rows.rows:
        _, label, group = values
        if groups.setdefault(label, group) != group:
            refuse(_two_groups(f"{table}, {rows.unit} {number}", label, group, groups[label]))
        yield number, values


@contextmanager
def _sizes_below(base: Path) -> Iterator[Callable[[list[str]], list[int]]]:
    """A function from places, as seen from the folder, to sizes in bytes, -1 where no file is."""
    folder = os.open(base, os.O_PATH | os.O_DIRECTORY)

    def size(place: str) -> int:
        try:
            status = os.stat(place, dir_fd=folder)
        except (OSError, ValueError):  # ValueError: a NUL byte in the name
            return -1
        return status.st_size if stat.S_ISREG(status.st_mode) else -1

    def sizes(places: list[str]) -> list[int]:
        return [size(place) for place in places]

    def in_parts(places: list[str]) -> list[int]:
        part = -(-len(places) // _THREADS) or 1
        parts = [places[at : at + part] for at in range(0, len(places), part)]
        return list(chain.from_iterable(pool.map(sizes, parts)))

    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            yield in_parts
    finally:
        os.close(folder)


def _name(place: str, folder: str) -> str:
    """The path from the folder as text; the very same string if it is written so."""
    if place[0] in "./" or "/." in place or "//" in place:
        place = os.path.relpath(os.path.join(folder, place), folder)  # noqa: PTH118
    return as_text(place)


def _listing(table: Path, base: Path, unit: str, found: _Found, refuse: Refuse) -> Listing:
    twice = repeated(found.names)
    for row in twice:
        place = f"{table}, {unit} {found.numbers[row]}"
        refuse(DataError(f"{place}: {quoted(found.places[row])} is listed a second time."))
    listing = Listing(
        base,
        list(found.classes),
        np.frombuffer(found.labels, np.intc),
        found.names,
        found.places,
        np.frombuffer(found.sizes, np.int64),
    )
    return listing.without(twice) if twice else listing


def _as_texts(table: Path, given: dict[str, str], refuse: Refuse) -> dict[str, str]:
    """Groups by class, both as text; ways to write one class must agree on its group."""
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


def _missing_error(table: Path, base: Path, found: _Found, of: str) -> DataError:
    more = found.lost - len(found.missing)
    shown = first_few(found.missing) + (f" and {more} more" if more else "")
    return DataError(
        f"{table}: {found.lost} of {of} files do not exist under {base}: {shown}. "
        "Correct the paths, or name the folder they start from as root."
    )


def _csv_rows(table: Path, refuse: Refuse) -> _Rows:
    """The rows of a UTF-8 CSV with a header; empty lines and other columns are ignored."""
    _check_encoding(table)
    # A byte that is not UTF-8 becomes a surrogate, so that the row it stands in can be named.
    file = table.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(iter(partial(file.readline, _LONGEST_LINE), ""), strict=True)
    try:
        header = next(reader, [])
        wanted = _wanted_columns(table, [name.strip() for name in header])
    except (OSError, csv.Error) as error:
        raise _unreadable_csv(table, reader.line_num, str(error)) from None
    rows = _csv_values(table, file, reader, wanted, len(header), refuse)
    return _Rows("line", rows, {} if len(wanted) > len(_REQUIRED) else None)


def _csv_values(
    table: Path, file: IO[str], reader: Any, wanted: list[int], width: int, refuse: Refuse
) -> Iterator[Row]:
    line = 1
    try:
        with file:
            for fields in reader:
                values = [fields[at].strip() if at < len(fields) else "" for at in wanted]
                for value in values:
                    if not value.isascii():
                        _check_utf8(table, line, value)
                line = reader.line_num
                if len(fields) > width:
                    fault = "more fields than columns. Quote text with commas."
                    refuse(DataError(f"{table}, line {line}: {fault}"))
                elif all(values):
                    yield line, values
                elif fields:
                    refuse(_empty_error(f"{table}, line {line}", values))
    except (OSError, csv.Error) as error:
        hint = "; is a quote left open?" if isinstance(error, csv.Error) else ""
        raise _unreadable_csv(table, line, f"{error}{hint}") from None


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


def _check_utf8(table: Path, line: int, value: str) -> None:
    wrong = next((each for each in value if "\udc80" <= each <= "\udcff"), None)
    if wrong is not None:
        reason = f"the byte 0x{ord(wrong) - 0xDC00:02x} is not UTF-8; save it as 'CSV UTF-8'"
        raise _unreadable_csv(table, line, reason)


def _unreadable_csv(table: Path, line: int, reason: str) -> DataError:
    return DataError(f"{table} is not a readable UTF-8 CSV file: after line {line}: {reason}.")


def _wanted_columns(table: Path, names: Sequence[str]) -> list[int]:
    """Where path, label and, if there is one, group stand."""
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        shown = ", ".join(map(repr, names))[:300] or "none"
        raise DataError(
            f"{table} has no column {' and no column '.join(map(repr, missing))}; its columns: "
            f"{shown}. Needed are path,label and optionally group.{_separator_hint(names)}"
        )
    for name in _COLUMNS:
        if list(names).count(name) > 1:
            raise DataError(f"{table} has two columns named {name!r}. Rename one of them.")
    return [list(names).index(name) for name in _COLUMNS if name in names]


def _separator_hint(names: Sequence[str]) -> str:
    for separator, word in _SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            return f" Its columns are separated by {word}; save it with commas."
    return ""


def _empty_error(place: str, values: Sequence[str]) -> DataError:
    name = next(name for name, value in zip(_COLUMNS, values, strict=False) if not value)
    return DataError(f"{place}: the {name} is empty.")


def _parquet_rows(table: Path, refuse: Refuse) -> _Rows:
    """The rows of a Parquet file: paths are text, labels and groups text or whole numbers."""
    arrow = _pyarrow(table)
    try:
        file = arrow.parquet.ParquetFile(table)
        schema = file.schema_arrow
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise _unreadable_parquet(table, error) from None
    columns = [schema.names[at] for at in _wanted_columns(table, schema.names)]
    for name in columns:
        _check_type(table, arrow.types, name, schema.field(name).type)
    rows = _parquet_values(table, arrow, file, columns, refuse)
    return _Rows("row", rows, {} if len(columns) > len(_REQUIRED) else None)


def _parquet_values(
    table: Path, arrow: Any, file: Any, columns: list[str], refuse: Refuse
) -> Iterator[Row]:
    numbers = count(1)
    try:
        with file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                texts = [_texts(arrow, batch.column(name)) for name in columns]
                for values in map(list, zip(*texts, strict=True)):
                    number = next(numbers)
                    if all(values):
                        yield number, values
                    else:
                        refuse(_empty_error(f"{table}, row {number}", values))
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise _unreadable_parquet(table, error) from None


def _texts(arrow: Any, column: Any) -> list[str]:
    """The values as text without white space around them, empty where there is none."""
    if arrow.types.is_dictionary(column.type):  # older releases cannot cast one to another type
        column = column.dictionary_decode()
    filled = column.cast(arrow.large_string()).fill_null("")
    # Ten times as quick as to_pylist.
    return list(map(str.strip, filled.to_numpy(zero_copy_only=False).tolist()))


def _check_type(table: Path, types: Any, name: str, given: Any) -> None:
    kind = given.value_type if types.is_dictionary(given) else given
    text = types.is_string(kind) or types.is_large_string(kind)
    if text or (name != "path" and types.is_integer(kind)):
        return
    allowed = "text" if name == "path" else "text or whole numbers"
    raise DataError(f"{table}: the column {name!r} holds {given}, and {allowed} are needed.")


def _unreadable_parquet(table: Path, error: Exception) -> DataError:
    first = as_text(next(iter(str(error).splitlines()), type(error).__name__))
    return DataError(f"{table} is not a readable Parquet file ({first.rstrip('.')[:200]}).")


def _pyarrow(table: Path) -> Any:
    try:
        arrow, *_ = [import_module(f"pyarrow{part}") for part in ("", ".parquet", ".types")]
    except ImportError:
        raise DataError(
            f"reading {table} needs pyarrow. Type: pip install 'oodml[parquet]', or give a CSV."
        ) from None
    return arrow
