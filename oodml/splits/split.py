"""Split: disjoint train and test classes, and the shift measured between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from oodml.errors import DataError, UsageError
from oodml.fid.shift import Shift
from oodml.files import digest
from oodml.records import checked_fields
from oodml.seeding import generator

MIN_CLASSES_PER_SIDE = 2


@dataclass(frozen=True)
class Split:
    """Two disjoint, sorted sets of class names and, if measured, the `shift` between them.

    `published_fid` is the distance that a published split came with; a measured shift takes
    precedence. Raises `DataError` when a class stands on both sides, stands twice, or a side is
    empty.
    """

    train_classes: tuple[str, ...]
    test_classes: tuple[str, ...]
    shift: Shift | None = None
    published_fid: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "train_classes", _sorted_unique(self.train_classes, "train"))
        object.__setattr__(self, "test_classes", _sorted_unique(self.test_classes, "test"))
        both = sorted(set(self.train_classes) & set(self.test_classes))
        if both:
            raise DataError(f"{len(both)} classes are on both sides of a split: {_some(both)}.")

    @cached_property
    def id(self) -> str:
        """12 hex digits that depend on the two class sets only."""
        return digest({"train": self.train_classes, "test": self.test_classes})

    @property
    def fid(self) -> float:
        """The Frechet distance, measured or else as published; `DataError` if there is neither."""
        if self.shift is not None:
            return self.shift.fid
        if self.published_fid is not None:
            return self.published_fid
        raise DataError(f"split {self.id} carries no measured shift.")

    def to_json(self) -> dict[str, Any]:
        """A plain dict for a JSON file."""
        return {
            "id": self.id,
            "train_classes": list(self.train_classes),
            "test_classes": list(self.test_classes),
            "shift": None if self.shift is None else self.shift.to_json(),
            **({} if self.published_fid is None else {"published_fid": self.published_fid}),
        }

    @classmethod
    def from_json(cls, record: Any) -> Split:
        """The split in a JSON dict; `DataError` if its id does not match its classes."""
        given = dict(record) if isinstance(record, dict) else record
        split_id = given.pop("id", None) if isinstance(given, dict) else None
        values = checked_fields(cls, given, "a split", ("shift",))
        shift = values.get("shift")
        split = cls(**{**values, "shift": None if shift is None else Shift.from_json(shift)})
        if split.id != split_id:
            raise DataError(
                f"split {str(split_id)[:20]!r} was changed by hand: its classes hash to "
                f"{split.id!r}."
            )
        return split


def random_split(
    class_names: Sequence[str], *, train_fraction: float = 0.5, seed: int = 0
) -> Split:
    """A seeded random split that does not depend on the order of `class_names`.

    Raises `UsageError` when a side would hold fewer than two classes.
    """
    names = _sorted_unique(class_names, "given")
    if not 0 < train_fraction < 1:
        raise UsageError(f"train fraction {train_fraction} is not between 0 and 1.")
    n_train = round(train_fraction * len(names))
    if min(n_train, len(names) - n_train) < MIN_CLASSES_PER_SIDE:
        raise UsageError(
            f"{len(names)} classes with a train fraction of {train_fraction} leave fewer than "
            f"{MIN_CLASSES_PER_SIDE} classes on a side; a split needs at least "
            f"{2 * MIN_CLASSES_PER_SIDE} classes."
        )
    order = generator(seed, "split").permutation(len(names))
    return Split(tuple(names[i] for i in order[:n_train]), tuple(names[i] for i in order[n_train:]))


def _sorted_unique(names: Iterable[str], side: str) -> tuple[str, ...]:
    names = sorted(names)
    if not names:
        raise DataError(f"the {side} classes of a split are empty.")
    twice = sorted({a for a, b in itertools.pairwise(names) if a == b})
    if twice:
        raise DataError(f"{side} classes named twice: {_some(twice)}.")
    return tuple(names)


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
