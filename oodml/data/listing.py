"""From columns that list files, however many, to a checked Dataset."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oodml.data.dataset import Dataset, by_class
from oodml.data.names import as_text
from oodml.data.paths import Paths
from oodml.data.samples import Refuse, check_class_sizes, first_few, refuse_at_once
from oodml.errors import DataError

logger = logging.getLogger("oodml")


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
        (`as_text`) become one, said aloud. Refuses two files of one name, and classes that have
        a single image.
        """
        class_names, labels = _merged(self.classes, self.labels, source)
        self._check_names(source, refuse)
        counts = np.bincount(labels, minlength=len(class_names)).tolist()
        sizes = dict(zip(class_names, counts, strict=True))
        check_class_sizes({each: n for each, n in sizes.items() if n}, source, refuse)
        order = _order(labels, self.names)
        return Dataset(
            name=name,
            class_names=class_names,
            labels=labels[order],
            sample_names=tuple([self.names[row] for row in order]),
            paths=Paths(self.root, tuple([self.places[row] for row in order])),
            sizes=self.sizes[order],
            groups=None if groups is None else tuple(groups[each] for each in class_names),
            source=source,
        )

    def _check_names(self, source: str, refuse: Refuse) -> None:
        twice = repeated(self.names)
        if twice:
            names = [self.names[row] for row in twice]
            refuse(
                DataError(
                    f"{source}: {len(twice)} files have the name of another once it is written as "
                    f"text (NFC): {first_few(names)}. Rename or remove them."
                )
            )


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
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
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
    renumbered = np.array([number[text] for text in texts], np.int64)
    return class_names, renumbered[labels] if len(labels) else labels.astype(np.int64)


def _order(labels: npt.NDArray[np.int64], names: Sequence[str]) -> npt.NDArray[np.int64]:
    """The rows by label, then by name; one class at a time, which takes little memory."""
    order = np.empty(len(labels), np.int64)
    start = 0
    for rows in by_class(labels):
        order[start : start + len(rows)] = sorted(rows.tolist(), key=names.__getitem__)
        start += len(rows)
    return order
