"""Embeddings made elsewhere: .npz of ours, .npy with a CSV of labels, .parquet -> Features."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.eval.statistics.series import EMBEDDINGS
from oodml.features.array_files import read_npy
from oodml.features.features import Features, FeatureSource

_LABELS = ("label", "class", "class_name")
_SAMPLES = ("path", "sample", "sample_name", "file")


@dataclass(frozen=True)
class NamedRows:
    """A class name per row, and a sample name per row if there are any."""

    classes: tuple[str, ...]
    samples: tuple[str, ...] = ()


def read_embeddings(path: str | Path, labels: str | Path | None = None) -> Features:
    """The embeddings in a file, with class names; rows that have sample names sorted by them.

    - `.npz`: what `oodml features` and `Features.save` write; its own labels count.
    - `.npy`: an array (n, d) of numbers, and in the CSV `labels` (default: the same name with
      .csv) one line a row with the column `label`, or with `path` alone, where the folder that a
      file lies in is its class.
    - `.parquet`: one column of vectors of equal length and the same columns of names.

    The source's `backbone` is "embeddings", its `weights` the SHA-256 of values and class names,
    which does not depend on the kind of file. Raises `DataError` for files of another kind or
    shape, values that are not finite, or another number of labels.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file of embeddings at {path}.")
    if path.suffix == ".npz":
        features = Features.load(path)
        return replace(features, source=_source(features, features.source.fingerprint))
    if path.suffix == ".npy":
        values, named = _read_array(path), _read_labels(path, labels)
    elif path.suffix == ".parquet":
        values, named = _read_parquet(path)
    else:
        raise DataError(
            f"{path}: embeddings come as .npz, .npy with a .csv of labels, or .parquet."
        )
    return _features(path, values, named)


def content_digest(features: Features) -> str:
    """SHA-256, 64 hex digits, over the vectors of each class, classes in order of name."""
    digest = hashlib.sha256(f"embeddings {features.values.shape[1]}".encode())
    order = np.argsort(features.labels, kind="stable")
    ends = np.cumsum(np.bincount(features.labels, minlength=len(features.class_names)))
    rows = np.split(order, ends[:-1])
    for label, name in sorted(enumerate(features.class_names), key=lambda item: item[1]):
        own = np.ascontiguousarray(features.values[rows[label]], dtype="<f4")
        digest.update(f"\n{len(own)} {name}\n".encode(errors="surrogatepass"))
        digest.update(own.tobytes())
    return digest.hexdigest()


def _source(features: Features, fingerprint: str) -> FeatureSource:
    name = features.source.dataset
    return FeatureSource(name, fingerprint, EMBEDDINGS, content_digest(features), "none", "fp32")


def _features(path: Path, values: npt.NDArray[Any], named: NamedRows) -> Features:
    if len(values) != len(named.classes):
        raise DataError(
            f"{path} holds {len(values)} embeddings and there are {len(named.classes)} labels; "
            "give one label for each, in the same order."
        )
    if named.samples:
        order = np.array(sorted(range(len(values)), key=lambda i: named.samples[i]), np.int64)
        values = values[order]
        named = NamedRows(
            tuple(named.classes[i] for i in order), tuple(named.samples[i] for i in order)
        )
    names = tuple(sorted(set(named.classes)))
    number = {name: index for index, name in enumerate(names)}
    labels = np.array([number[name] for name in named.classes], np.int64)
    source = FeatureSource(path.stem, "", EMBEDDINGS, "", "none", "fp32")
    try:
        with np.errstate(over="ignore"):
            features = Features(values, labels, names, source, named.samples)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return replace(features, source=_source(features, ""))


def _read_array(path: Path) -> npt.NDArray[Any]:
    try:
        with path.open("rb") as file:
            values = read_npy(file, path.stat().st_size)
    except (OSError, DataError) as error:
        raise DataError(f"{path} is not a readable .npy array ({error}).") from None
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise DataError(
            f"{path} holds an array of shape {values.shape} and type {values.dtype}; needed are "
            "numbers of shape (n, d), one row a sample."
        )
    return values


def _read_labels(path: Path, labels: str | Path | None) -> NamedRows:
    table = Path(labels) if labels is not None else path.with_suffix(".csv")
    if not table.is_file():
        raise DataError(
            f"no labels at {table} for the embeddings in {path}; name their CSV as labels."
        )
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return parse_labels(file, table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} is not a readable UTF-8 CSV file ({error}).") from None


def parse_labels(text: Iterable[str], table: Path) -> NamedRows:
    """The names in the lines of a CSV of labels; raises `DataError`, and `csv.Error` too."""
    reader = csv.DictReader(text, strict=True)
    header, rows = reader.fieldnames or (), list(reader)
    return _named(table, {name.strip(): [row[name] or "" for row in rows] for name in header})


def _named(path: Path, columns: Mapping[str, Sequence[Any]]) -> NamedRows:
    label = next((name for name in _LABELS if name in columns), None)
    sample = next((name for name in _SAMPLES if name in columns), None)
    if label is None and sample is None:
        raise DataError(
            f"{path} has the columns {', '.join(columns) or 'none'}; needed is `label`, or `path` "
            "with the class as the folder of each file."
        )
    samples = _texts(path, sample, columns[sample]) if sample is not None else ()
    if label is not None:
        return NamedRows(_texts(path, label, columns[label]), samples)
    folders = [PurePosixPath(name).parent.name for name in samples]
    return NamedRows(_texts(path, f"folder of {sample}", folders), samples)


def _texts(path: Path, column: str, values: Sequence[Any]) -> tuple[str, ...]:
    texts = tuple("" if value is None else str(value).strip() for value in values)
    empty = [number for number, text in enumerate(texts) if not text]
    if empty:
        raise DataError(
            f"{path}: {len(empty)} rows have an empty {column}, the first is row {empty[0]} "
            "(counted from 0)."
        )
    return texts


def _read_parquet(path: Path) -> tuple[npt.NDArray[Any], NamedRows]:
    arrow = _pyarrow(path)
    try:
        table = arrow.parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{path} is not a readable .parquet file ({first}).") from None
    kinds = (arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list)
    lists = [field.name for field in table.schema if any(kind(field.type) for kind in kinds)]
    if len(lists) != 1:
        raise DataError(
            f"{path} has {len(lists)} columns of vectors ({', '.join(lists) or 'none'}); needed is "
            "exactly one, a list of numbers a row."
        )
    named = {name: table.column(name).to_pylist() for name in _LABELS + _SAMPLES
             if name in table.column_names}  # fmt: skip
    if not named:
        named = {name: [] for name in table.column_names}
    return _vectors(path, arrow, table.column(lists[0])), _named(path, named)


def _vectors(path: Path, arrow: Any, column: Any) -> npt.NDArray[Any]:
    lengths = set(arrow.compute.list_value_length(column).to_pylist())
    flat = arrow.compute.list_flatten(column)
    numbers = arrow.types.is_floating(flat.type) or arrow.types.is_integer(flat.type)
    if len(lengths) != 1 or None in lengths or flat.null_count or not numbers:
        raise DataError(
            f"{path}: the column of vectors holds {flat.type} of {len(lengths)} lengths, or gaps; "
            "needed are numbers, equally many in every row."
        )
    values: npt.NDArray[Any] = flat.to_numpy()
    return values.reshape(len(column), -1)


def _pyarrow(path: Path) -> Any:
    """pyarrow with the parts that are used here; it is optional."""
    try:
        parts = [import_module(f"pyarrow{part}") for part in ("", ".parquet", ".compute", ".types")]
    except ImportError:
        raise DataError(
            f"reading {path} needs pyarrow; type: pip install 'oodml[parquet]', or save .npy and "
            ".csv."
        ) from None
    return parts[0]
