"""The split that a ladder starts from: a seeded draw of classes or groups, or one from a file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from oodml.errors import DataError, UsageError
from oodml.seeding import generator
from oodml.splits.construction.state import Pool
from oodml.splits.split import MIN_CLASSES_PER_SIDE, Split, random_split

SIDES = ("train", "test")


def drawn_split(pool: Pool, *, by: str, train_fraction: float, seed: int) -> Split:
    """A seeded random start: of classes, or of whole groups as near to the fraction as they go."""
    if by == "class":
        names = [name for names in pool.members for name in names]
        return random_split(names, train_fraction=train_fraction, seed=seed)
    if not 0 < train_fraction < 1:
        raise UsageError(f"train fraction {train_fraction} is not between 0 and 1.")
    order = generator(seed, "group split").permutation(len(pool.members))
    sizes = pool.classes[order].cumsum()
    misses = abs(sizes[:-1] - train_fraction * sizes[-1])
    if not len(misses):
        raise UsageError("all classes are in one group; to move groups takes at least 2 of them.")
    cut = int(misses.argmin()) + 1
    split = Split(pool.names(order[:cut]), pool.names(order[cut:]))
    if min(len(split.train_classes), len(split.test_classes)) < MIN_CLASSES_PER_SIDE:
        raise UsageError(
            f"{len(pool.members)} groups with a train fraction of {train_fraction} leave a side "
            f"with fewer than {MIN_CLASSES_PER_SIDE} classes; give another seed or fraction."
        )
    return split


def read_start(text: str, class_names: Sequence[str]) -> Split:
    """The split that `text` names: a CSV `class,side`, or `ladder.json:3` for a rung of a ladder.

    A published pickle is named `splits.pkl:3`, 3 being its own number of the split. Raises
    `DataError` for classes that are not among `class_names` and files that do not hold a split.
    """
    path, number = check_start(text)
    split = read_sides(path) if number is None else _rung(path, number, class_names)
    unknown = sorted(set(split.train_classes + split.test_classes) - set(class_names))
    if unknown:
        raise DataError(
            f"{text}: {len(unknown)} classes are not in the collection, such as {unknown[0]!r}."
        )
    return Split(split.train_classes, split.test_classes)


def check_start(text: str) -> tuple[str, int | None]:
    """The file that `text` names and the number of the split in it; None for a CSV, which has one.

    Raises `UsageError` for another form and `DataError` if there is no such file.
    """
    path, _, number = text.rpartition(":")
    if not number.isdecimal() or not path or len(number) > 9:
        path, number = text, ""
    if not path.endswith((".csv", ".json", ".pkl")):
        raise UsageError(
            f"start {text!r}: allowed are a CSV with the columns class and side, LADDER.json:RUNG "
            "and PUBLISHED.pkl:SPLIT."
        )
    single = path.endswith(".csv")
    if not single and not number:
        raise UsageError(f"{text} holds several splits; name one, such as {text}:3.")
    if not Path(path).is_file():
        raise DataError(f"no split at {path}.")
    return path, None if single else int(number)


def read_sides(path: str | Path) -> Split:
    """The split in a CSV with the columns `class` and `side` ("train" or "test")."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            return parse_sides(file, path)
    except FileNotFoundError:
        raise DataError(f"no split at {path}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a readable CSV ({error}).") from None


def parse_sides(text: Iterable[str], path: object) -> Split:
    """The split in the lines of such a CSV; `path` names it in errors. Raises csv.Error too."""
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for number, row in enumerate(csv.DictReader(text), start=2):
        name, side = row.get("class"), (row.get("side") or "").strip()
        if not name or side not in sides:
            raise DataError(
                f"{path}, line {number}: a split has the columns class and side, and a side is "
                "train or test."
            )
        sides[side].append(name)
    try:
        return Split(tuple(sides["train"]), tuple(sides["test"]))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _rung(path: str, number: int, class_names: Sequence[str]) -> Split:
    if path.endswith(".json"):
        from oodml.splits.ladder import Ladder

        rungs = dict(enumerate(Ladder.load(path).rungs))
    else:
        rungs = _published(path, class_names)
    if number not in rungs:
        raise UsageError(f"{path} has no split {number}; it has {min(rungs)} to {max(rungs)}.")
    return rungs[number]


def _published(path: str, class_names: Sequence[str]) -> dict[int, Split]:
    from oodml.splits.exchange import match_classes, read_splits

    splits = read_splits(path)
    named = {name for split in splits for name in split.train_classes + split.test_classes}
    found = match_classes(named, class_names).matched

    def spelt(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(found.get(name, name) for name in names)

    return {
        split.key: Split(spelt(split.train_classes), spelt(split.test_classes)) for split in splits
    }
