"""From a list of image files, of any length, to a checked Dataset."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oodml.data.dataset import Dataset, Paths, Refuse, check_class_sizes, refuse_at_once
from oodml.errors import DataError
from oodml.text import as_text, first_few

logger = logging.getLogger("oodml")

_AT_ONCE = 1 << 16


@dataclass(frozen=True, order=True)
class Sample:
    """One image file of one class; `name` is relative, `size` in bytes."""

    class_name: str
    name: str
    path: Path
    size: int


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


@dataclass(frozen=True, eq=False)
class Listing:
    """Files and their classes as a source lists them, a column for each property.

    File `i` lies at `root / places[i]`, is called `names[i]`, has `sizes[i]` bytes (int64) and is
    of the class `classes[labels[i]]`, written as the source writes it. `labels` are integers. A
    class may have no file. The name of a file is as a rule the same string as its place.
    """

    root: Path
    classes: Sequence[str]
    labels: npt.NDArray[np.integer]
    names: list[str]
    places: list[str]
    sizes: npt.NDArray[np.int64]

    def dataset(
        self,
        *,
        name: str,
        source: str,
        groups: Mapping[str, str] | None = None,
        refuse: Refuse = refuse_at_once,
    ) -> Dataset:
        """The files as a Dataset, sorted by class name, then sample name.

        `groups` maps class names (as text) to superclasses. Classes whose names are the same text
        (`as_text`) become one, with a warning. Refuses classes that have a single image.
        """
        class_names, labels = _merged(self.classes, self.labels, source)
        counts = np.bincount(labels, minlength=len(class_names)).tolist()
        sizes = dict(zip(class_names, counts, strict=True))
        check_class_sizes({each: n for each, n in sizes.items() if n}, source, refuse)
        order = _order(labels, self.names)
        names = _chosen(self.names, order)
        places = names if self.places is self.names else _chosen(self.places, order)
        return Dataset(
            name=name,
            class_names=class_names,
            labels=labels[order].astype(np.int64),
            sample_names=names,
            paths=Paths(self.root, places),
            sizes=self.sizes[order],
            groups=None if groups is None else tuple(groups[each] for each in class_names),
            source=source,
        )

    def without(self, rows: Sequence[int]) -> Listing:
        """The files of all other rows; classes may be left without one."""
        keep = np.ones(len(self.labels), bool)
        keep[rows] = False
        names, places = (
            list(_chosen(each, np.flatnonzero(keep))) for each in (self.names, self.places)
        )
        return replace(
            self, labels=self.labels[keep], names=names, places=places, sizes=self.sizes[keep]
        )

    def check_names(self, source: str, refuse: Refuse = refuse_at_once) -> None:
        """Refuse files that have the name of another."""
        twice = repeated(self.names)
        if twice:
            names = [self.names[row] for row in twice]
            refuse(
                DataError(
                    f"{source}: {len(twice)} files have the name of another once it is written as "
                    f"text (NFC): {first_few(names)}. Rename or remove them."
                )
            )


def _chosen(texts: Sequence[str], rows: npt.NDArray[np.int64]) -> tuple[str, ...]:
    # All numbers as objects at once would take as much memory as their texts.
    parts = (rows[at : at + _AT_ONCE].tolist() for at in range(0, len(rows), _AT_ONCE))
    return tuple(map(texts.__getitem__, chain.from_iterable(parts)))


def repeated(names: Sequence[str]) -> list[int]:
    """The rows whose name stands in an earlier row, ascending, in 16 bytes a name."""
    hashes = np.fromiter(map(hash, names), np.int64, len(names))
    hashes.sort()
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    del hashes
    if not suspects:
        return []
    seen: set[str] = set()
    rows = []
    for row, name in enumerate(names):
        if hash(name) in suspects:
            if name in seen:
                rows.append(row)
            seen.add(name)
    return rows


def _merged(
    classes: Sequence[str], labels: npt.NDArray[np.integer], source: str
) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    texts = [as_text(each) for each in classes]
    class_names = tuple(sorted(set(texts)))
    if len(class_names) < len(texts):
        twice = sorted({texts[row] for row in repeated(texts)})
        logger.warning(
            "%s: %d class names are written in several ways, each taken for one class: %s",
            source,
            len(twice),
            first_few(twice),
        )
    number = {each: index for index, each in enumerate(class_names)}
    renumbered = np.array([number[text] for text in texts], np.int32)
    return class_names, renumbered[labels] if len(labels) else labels.astype(np.int32)


def _order(labels: npt.NDArray[np.integer], names: Sequence[str]) -> npt.NDArray[np.int64]:
    """The rows by label, then by name; one class at a time, which takes little memory."""
    order = np.argsort(labels, kind="stable")
    for start, end in pairwise([0, *np.cumsum(np.bincount(labels)).tolist()]):
        order[start:end] = sorted(order[start:end].tolist(), key=names.__getitem__)
    return order
