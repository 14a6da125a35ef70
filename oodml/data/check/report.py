"""PoolReport: what the check found, as a record and as versioned JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from oodml.data.check.duplicates import DuplicateSet
from oodml.data.check.leakage import Leak
from oodml.data.collections.verified import Counts
from oodml.errors import DataError
from oodml.files import read_json, write_json

SCHEMA = 2


@dataclass(frozen=True)
class Spread:
    """The smallest, the middle and the largest of some numbers."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class Named:
    """A class or an image, and the one thing that is to be said about it."""

    name: str
    about: str


@dataclass(frozen=True)
class SmallClass:
    """A class with fewer images that decode than a query needs."""

    name: str
    images: int


@dataclass(frozen=True)
class Group:
    """A superclass, with the number of its classes and of its images."""

    name: str
    classes: int
    images: int


@dataclass(frozen=True)
class PoolReport:
    """Everything that `oodml dataset check` knows about a pool; lists are complete.

    `refused` holds the lines for which `load_dataset` would refuse the pool. `counts` compares a
    named collection with what was published, and is None for other sources. `class_sizes` counts
    all images, also those that do not decode; `small_classes` only those that do. `widths` and
    `heights` are in pixels, upright; they and `modes` and `formats` (counts of images) are of the
    images that decode. `max_distance` is what was asked for, `searched_distance` what was
    searched: less if there were too many near pairs, -1 if only equal pixels count.
    """

    source: str
    name: str
    fingerprint: str
    images: int
    classes: int
    refused: tuple[str, ...]
    class_sizes: Spread
    small_classes: tuple[SmallClass, ...]
    broken: tuple[Named, ...]
    blank: tuple[str, ...]
    across_classes: tuple[DuplicateSet, ...]
    within_classes: tuple[DuplicateSet, ...]
    max_distance: int
    searched_distance: int
    widths: Spread | None
    heights: Spread | None
    modes: dict[str, int]
    formats: dict[str, int]
    wrong_suffixes: tuple[Named, ...]
    groups: tuple[Group, ...] | None = None
    counts: Counts | None = None
    ladder: tuple[Leak, ...] | None = None

    @property
    def sound(self) -> bool:
        """True if nothing was found that stands in the way or would flatter a result."""
        return not (
            self.refused
            or self.small_classes
            or self.broken
            or self.blank
            or self.across_classes
            or self.within_classes
            or self.wrong_suffixes
            or (self.counts is not None and not self.counts.right)
            or any(leak.exact or leak.near for leak in self.ladder or ())
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dict for a JSON file, with its schema and `sound`."""
        return {"schema": SCHEMA, "sound": self.sound, **asdict(self)}

    def save(self, path: str | Path) -> None:
        """Write the report atomically as JSON."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> PoolReport:
        """The report in a file; `DataError` if it is of another version or no report."""
        record = read_json(path, "dataset check")
        if type(record.get("schema")) is not int or record["schema"] != SCHEMA:
            raise DataError(
                f"{path} has dataset check schema {record.get('schema')!r}; this oodml reads "
                f"{SCHEMA}."
            )
        try:
            return cls.from_json(record)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is not a valid dataset check ({error!r}).") from None

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> PoolReport:
        """The report in a JSON dict; unknown and missing keys are errors."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(record) - known - {"schema", "sound"})
        if unknown:
            raise ValueError(f"unknown keys {unknown}")
        values = {name: record[name] for name in known}
        for name, read in _READERS.items():
            if values[name] is not None:
                values[name] = read(values[name])
        return cls(**values)


def _each(read: Callable[[Any], Any]) -> Callable[[list[Any]], tuple[Any, ...]]:
    return lambda values: tuple(read(value) for value in values)


def _duplicate_set(record: dict[str, Any]) -> DuplicateSet:
    lists = {name: tuple(record[name]) for name in ("classes", "images")}
    return DuplicateSet(**{**record, **lists})


def _leak(record: dict[str, Any]) -> Leak:
    return Leak(**{**record, "examples": tuple(tuple(pair) for pair in record["examples"])})


def _record(kind: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda values: kind(**values)


_READERS: dict[str, Callable[[Any], Any]] = {
    "refused": tuple,
    "class_sizes": _record(Spread),
    "small_classes": _each(_record(SmallClass)),
    "broken": _each(_record(Named)),
    "blank": tuple,
    "across_classes": _each(_duplicate_set),
    "within_classes": _each(_duplicate_set),
    "widths": _record(Spread),
    "heights": _record(Spread),
    "wrong_suffixes": _each(_record(Named)),
    "groups": _each(_record(Group)),
    "counts": _record(Counts),
    "ladder": _each(_leak),
}
