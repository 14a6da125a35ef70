"""Splits as CSV: one line a class, with the rung, its FID and the side."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from oodml.errors import DataError
from oodml.files import atomic_write
from oodml.splits.formats.published_pickle import PublishedSplit

# Rungs count from 0, as everywhere else; reading takes any numbers, of which the order matters.
COLUMNS = ("rung", "fid", "side", "class")
# "validation" classes are train classes too; they are written once, under this side.
SIDES = ("train", "validation", "test")


def write_csv(splits: Sequence[PublishedSplit], path: str | Path) -> None:
    """Write splits as CSV with the columns rung, fid, side (train, validation, test), class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for split in splits:
        held_out = set(split.validation_classes)
        sides = [(name, "validation" if name in held_out else "train") for name in
                 split.train_classes] + [(name, "test") for name in split.test_classes]  # fmt: skip
        writer.writerows([split.key, repr(split.fid), side, name] for name, side in sides)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))


def read_csv(path: str | Path) -> tuple[PublishedSplit, ...]:
    """The splits that `write_csv` wrote, by rung; `DataError` naming a wrong line."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return parse_csv(file, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a readable CSV file ({error}).") from None


def parse_csv(text: Iterable[str], path: object) -> tuple[PublishedSplit, ...]:
    """The splits in the lines of such a CSV; `path` names it in errors. Raises csv.Error too."""
    lines = list(csv.reader(text))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise DataError(f"{path}: the first line must be {','.join(COLUMNS)}.")
    if len(lines) == 1:
        raise DataError(f"{path} holds no split: it has a header and no lines.")
    fids: dict[int, float] = {}
    classes: dict[int, dict[str, list[str]]] = {}
    for number, line in enumerate(lines[1:], start=2):
        rung, fid, side, name = _checked(line, f"{path}, line {number}")
        if fids.setdefault(rung, fid) != fid:
            raise DataError(f"{path}, line {number}: rung {rung} has two FIDs.")
        classes.setdefault(rung, {side: [] for side in SIDES})[side].append(name)
    return tuple(
        PublishedSplit(
            rung,
            tuple(sorted(sides["train"] + sides["validation"])),
            tuple(sides["test"]),
            fids[rung],
            tuple(sides["validation"]),
            {},
        )
        for rung, sides in sorted(classes.items())
    )


def _checked(line: list[str], place: str) -> tuple[int, float, str, str]:
    try:
        rung, fid, side, name = line
        values = int(rung), float(fid), side, name
    except ValueError:
        raise DataError(f"{place} is not of the form {','.join(COLUMNS)}.") from None
    if side not in SIDES or not name or not math.isfinite(values[1]):
        raise DataError(f"{place}: side must be one of {', '.join(SIDES)}, FID a finite number.")
    return values
