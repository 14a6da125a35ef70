"""The readers of foreign records, each as a function of bytes that may end in OodmlError only.

What a reader takes for whole is used as a command would use it, and every eighth is written out and
read again.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError
from oodml.eval.embedding_files import parse_labels
from oodml.features.array_files import read_npy
from oodml.features.features import Features
from oodml.files import digest, parse_json
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import grid_from_json
from oodml.splits.construction.start import parse_sides
from oodml.splits.exchange import imported_ladder
from oodml.splits.formats.csv import parse_csv
from oodml.splits.formats.published_pickle import parse_published
from oodml.splits.ladder import Ladder


def ladder(data: bytes) -> None:
    """`ladder.json`, with a digest that fits whatever the rest says."""
    record = parse_json(data, "ladder", "input")
    content = {key: value for key, value in record.items() if key != "digest"}
    found = Ladder.from_json({**content, "digest": _digest_or(record.get("digest"), content, 64)})
    if _chosen(data):
        text = json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False)
        assert Ladder.from_json(json.loads(text)) == found
    found.fid_label()
    for rung in found.rungs:
        found.images(rung.train_classes)


def run(data: bytes) -> None:
    """`run.json`, with an id that fits whatever the spec says."""
    record = parse_json(data, "run record", "input")
    spec = record.get("spec")
    if isinstance(spec, dict):
        record["id"] = _spec_id(spec, record.get("id"))
    found = RunRecord.from_json(record)
    if _chosen(data):
        text = json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False)
        assert RunRecord.from_json(json.loads(text)) == found
    assert found.label


def grid(data: bytes) -> None:
    """A list of runs, `grids/*.json`."""
    grid_from_json(parse_json(data, "list of runs", "input"))


def npz(data: bytes) -> None:
    """Features, `.npz`."""
    found = Features.read(io.BytesIO(data), "input")
    assert found.values.ndim == 2 and len(found) == len(found.values)
    found.subset(found.class_names[:1])


def npy(data: bytes) -> None:
    """The array of embeddings made elsewhere, `.npy`."""
    read_npy(io.BytesIO(data), len(data))


def pickle(data: bytes) -> None:
    """The published split files."""
    splits = parse_published(data, "input")
    found = imported_ladder(splits, "input")
    if _chosen(data):
        assert Ladder.from_json(json.loads(json.dumps(found.to_json()))) == found


def table(data: bytes) -> None:
    """The three kinds of CSV: ladders, a start split, and labels of embeddings."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return
    parses: list[Callable[[io.StringIO], Any]] = [
        lambda lines: imported_ladder(parse_csv(lines, "input"), "input"),
        lambda lines: parse_sides(lines, "input"),
        lambda lines: parse_labels(lines, Path("input")),
    ]
    refused = [_refuses(parse, text) for parse in parses]
    if all(refused):
        raise OodmlError("no kind of CSV")


READERS: dict[str, Callable[[bytes], None]] = {
    "ladder": ladder,
    "run": run,
    "grid": grid,
    "npz": npz,
    "npy": npy,
    "pickle": pickle,
    "csv": table,
}


def accepts(name: str, data: bytes) -> bool:
    """Whether a reader takes the bytes for whole; any error but OodmlError goes through."""
    try:
        READERS[name](data)
    except OodmlError as error:
        assert str(error).isprintable() or str(error).strip(), "an error without words"
        return False
    return True


def _chosen(data: bytes) -> bool:
    """One input in eight: reading again what was written costs more than all the rest."""
    return zlib.crc32(data) % 8 == 0


def _refuses(parse: Callable[[io.StringIO], Any], text: str) -> bool:
    try:
        parse(io.StringIO(text, newline=""))
    except (OodmlError, csv.Error):
        return True
    return False


def _digest_or(given: Any, content: Any, digits: int) -> Any:
    try:
        return digest(content, digits)
    except (ValueError, RecursionError):
        return given


def _spec_id(spec: dict[str, Any], given: Any) -> Any:
    try:
        return RunSpec.from_json(spec).id
    except OodmlError:
        return given
