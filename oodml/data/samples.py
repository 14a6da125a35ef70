"""From a list of image files to a checked Dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oodml.data.dataset import Dataset
from oodml.errors import DataError

# A query needs at least one other image of its class to be found.
FEWEST_IMAGES = 2

# What a loader does with a fault it can go on from: raise it, or note it down.
Refuse = Callable[[DataError], None]


@dataclass(frozen=True, order=True)
class Sample:
    """One image file of one class; `name` is relative, `size` in bytes."""

    class_name: str
    name: str
    path: Path
    size: int


def refuse_at_once(error: DataError) -> None:
    """Raise the error: what every loader does with a fault, unless it is told otherwise."""
    raise error


def dataset_of(
    samples: Iterable[Sample],
    *,
    name: str,
    source: str,
    groups: Mapping[str, str] | None = None,
    skipped: Sequence[str] = (),
    empty_classes: Sequence[str] = (),
    refuse: Refuse = refuse_at_once,
) -> Dataset:
    """The samples as a Dataset, sorted by class name, then sample name.

    `groups` maps class names to superclasses. Raises `DataError` if a class has a single image,
    or hands it to `refuse`; `empty_classes` are then listed too.
    """
    ordered = sorted(samples)
    counts = Counter(sample.class_name for sample in ordered)
    check_class_sizes(counts, source, refuse)
    class_names = tuple(sorted({*counts, *empty_classes}))
    index = {class_name: number for number, class_name in enumerate(class_names)}
    return Dataset(
        name=name,
        class_names=class_names,
        labels=np.array([index[sample.class_name] for sample in ordered], np.int64),
        sample_names=tuple(sample.name for sample in ordered),
        paths=tuple(sample.path for sample in ordered),
        sizes=np.array([sample.size for sample in ordered], np.int64),
        groups=None if groups is None else tuple(groups[each] for each in class_names),
        source=source,
        skipped=tuple(skipped),
    )


def check_class_sizes(
    counts: Mapping[str, int], source: str, refuse: Refuse = refuse_at_once
) -> None:
    """Refuse, with a `DataError` that names them, classes of fewer than `FEWEST_IMAGES` images."""
    small = sorted(class_name for class_name, count in counts.items() if count < FEWEST_IMAGES)
    if small:
        refuse(
            DataError(
                f"{source}: {len(small)} of {len(counts)} classes have fewer than {FEWEST_IMAGES} "
                f"usable images: {first_few(small)}. "
                "Add images to them, or take these classes out of the collection."
            )
        )


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first names, quoted, and how many more there are: `'a', 'b' and 7 more`."""
    shown = ", ".join(map(quoted, names[:most]))
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown


def quoted(name: str, most: int = 300) -> str:
    """The name as Python would write it, its end left out if it is very long."""
    return repr(name if len(name) <= most else f"{name[:most]}...")
