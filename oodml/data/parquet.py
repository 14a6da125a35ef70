"""The rows of a Parquet file, checked as those of a CSV file are."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from oodml.data.names import as_text
from oodml.data.rows import Row, Rows, first_empty, wanted_columns
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
    return Rows("row", len(columns) > 2, _values(table, arrow, file, columns, refuse))


def _values(
    table: Path, arrow: Any, file: Any, columns: list[str], refuse: Refuse
) -> Iterator[Row]:
    numbers = count(1)
    try:
        with file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                lists = [batch.column(name).to_pylist() for name in columns]
                for row, number in zip(zip(*lists, strict=True), numbers, strict=False):
                    values = ["" if value is None else str(value).strip() for value in row]
                    if all(values):
                        yield number, values
                    else:
                        empty = first_empty(values)
                        refuse(DataError(f"{table}, row {number}: the {empty} is empty."))
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise _unreadable(table, error) from None


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
