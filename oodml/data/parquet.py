"""The rows of a Parquet file, checked as those of a CSV file are."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from oodml.data.names import as_text
from oodml.data.rows import FIRST, Block, Rows, block_of, first_empty, wanted_columns
from oodml.data.samples import Refuse
from oodml.errors import DataError

_BATCH = 1 << 16


def parquet_rows(table: Path, refuse: Refuse) -> Rows:
    """The rows of a Parquet file with the columns path, label and perhaps group.

    Paths are text; labels and groups are text or whole numbers. White space around values is
    dropped and other columns are not read. Refuses rows with an empty or missing value. Raises
    `DataError` for what is no such file, and if pyarrow is missing (the extra `parquet`).
    """
    arrow = _pyarrow(table)
    try:
        file = arrow.parquet.ParquetFile(table)
        schema = file.schema_arrow
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise _unreadable(table, error) from None
    columns = [schema.names[at] for at in wanted_columns(table, schema.names)]
    for name in columns:
        _check_type(table, arrow.types, name, schema.field(name).type)
    return Rows("row", len(columns) > 2, _blocks(table, arrow, file, columns, refuse))


def _blocks(
    table: Path, arrow: Any, file: Any, columns: list[str], refuse: Refuse
) -> Iterator[Block]:
    start = 1
    try:
        with file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                # The first rows alone, as those of a CSV.
                parts = [batch] if start > 1 else [batch[:FIRST], batch[FIRST:]]
                for part in filter(len, parts):
                    values = [_texts(arrow, part.column(name)) for name in columns]
                    yield from _block(table, start, values, refuse)
                    start += len(part)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise _unreadable(table, error) from None


def _texts(arrow: Any, column: Any) -> list[str]:
    """The values as text without white space around them, empty where there is none."""
    if arrow.types.is_dictionary(column.type):  # older releases cannot cast one to another type
        column = column.dictionary_decode()
    filled = column.cast(arrow.large_string()).fill_null("")
    # Ten times as quick as to_pylist.
    return list(map(str.strip, filled.to_numpy(zero_copy_only=False).tolist()))


def _block(table: Path, start: int, columns: list[list[str]], refuse: Refuse) -> Iterator[Block]:
    numbers = range(start, start + len(columns[0]))
    if all(map(all, columns)):
        yield Block(numbers, columns)
        return
    numbered: list[tuple[int, list[str]]] = []
    refused = False
    for number, *values in zip(numbers, *columns, strict=True):
        if all(values):
            numbered.append((number, values))
            continue
        if not refused:  # as in rows.py
            yield block_of(numbered, len(columns))
            numbered, refused = [], True
        refuse(DataError(f"{table}, row {number}: the {first_empty(values)} is empty."))
    yield block_of(numbered, len(columns))


def _check_type(table: Path, types: Any, name: str, given: Any) -> None:
    kind = given.value_type if types.is_dictionary(given) else given
    text = types.is_string(kind) or types.is_large_string(kind)
    if text or (name != "path" and types.is_integer(kind)):
        return
    allowed = "text" if name == "path" else "text or whole numbers"
    raise DataError(f"{table}: the column {name!r} holds {given}, and {allowed} are needed.")


def _unreadable(table: Path, error: Exception) -> DataError:
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
