"""check_dataset: one pass over a pool, and everything that is to be said about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oodml.data.check.duplicates import Duplicates, Integers, find_duplicates
from oodml.data.check.look import Look, look_at_all
from oodml.data.check.nearby import MAX_DISTANCE
from oodml.data.check.report import Group, Named, PoolReport, SmallClass, Spread
from oodml.data.collections.registry import all_collections
from oodml.data.collections.verified import Counts, count
from oodml.data.dataset import Dataset
from oodml.data.load import list_dataset
from oodml.data.names import as_text
from oodml.data.samples import FEWEST_IMAGES


@dataclass(frozen=True, eq=False)
class PoolCheck:
    """The report on a pool, and what questions about splits of it need.

    `decoding` holds the rows of the images that decode, ascending.
    """

    dataset: Dataset
    decoding: Integers
    duplicates: Duplicates
    report: PoolReport


def check_dataset(
    source: str | Path,
    *,
    root: str | Path | None = None,
    max_distance: int = MAX_DISTANCE,
    progress: bool = False,
) -> PoolCheck:
    """Counts, small classes, broken, blank and duplicate images, sizes and groups of a pool.

    `source` and `root` are those of `load_dataset`, but the check goes on where that stops: at
    classes of one image, empty class folders, missing and broken files, rows listed twice, a
    collection of which only a part is there. Each image is decoded once, in threads; 100,000
    photographs take minutes. `max_distance` is the number of bits of 256 by which the perceptual
    hashes of near duplicates may differ. Raises `DataError` or `UsageError` only where there is no
    pool at all.
    """
    dataset, refused = list_dataset(source, root=root, progress=progress)
    looks = look_at_all(dataset, progress=progress)
    duplicates = find_duplicates(looks, max_distance)
    decoding = np.flatnonzero([isinstance(look, Look) for look in looks])
    report = replace(_report(dataset, refused, looks, duplicates), counts=_counted(source, dataset))
    return PoolCheck(dataset, decoding, duplicates, report)


def _counted(source: str | Path, dataset: Dataset) -> Counts | None:
    known = all_collections().get(source) if isinstance(source, str) else None
    return None if known is None else count(known, dataset)


def _report(
    dataset: Dataset, refused: Sequence[str], looks: list[Look | str], duplicates: Duplicates
) -> PoolReport:
    names = [as_text(name) for name in dataset.sample_names]
    class_names = [as_text(name) for name in dataset.class_names]
    sets = duplicates.sets(names, [class_names[label] for label in dataset.labels])
    seen = [(name, each) for name, each in zip(names, looks, strict=True) if isinstance(each, Look)]
    broken = [
        (name, each) for name, each in zip(names, looks, strict=True) if isinstance(each, str)
    ]
    return PoolReport(
        source=as_text(dataset.source),
        name=as_text(dataset.name),
        fingerprint=dataset.fingerprint,
        images=len(dataset),
        classes=len(class_names),
        refused=tuple(as_text(line) for line in refused),
        class_sizes=_spread(_class_sizes(dataset)),
        small_classes=_small_classes(dataset, looks, class_names),
        broken=tuple(Named(name, as_text(reason)) for name, reason in broken),
        blank=tuple(name for name, look in seen if look.blank),
        across_classes=tuple(each for each in sets if len(each.classes) > 1),
        within_classes=tuple(each for each in sets if len(each.classes) == 1),
        max_distance=duplicates.max_distance,
        searched_distance=duplicates.near.radius,
        widths=_spread([look.width for _, look in seen]) if seen else None,
        heights=_spread([look.height for _, look in seen]) if seen else None,
        modes=_counts(look.mode for _, look in seen),
        formats=_counts(look.format for _, look in seen),
        wrong_suffixes=tuple(
            Named(name, look.format) for name, look in seen if not look.suffix_fits
        ),
        groups=_groups(dataset),
    )


def _class_sizes(dataset: Dataset) -> list[int]:
    sizes: list[int] = np.bincount(dataset.labels, minlength=len(dataset.class_names)).tolist()
    return sizes


def _small_classes(
    dataset: Dataset, looks: Sequence[Look | str], class_names: Sequence[str]
) -> tuple[SmallClass, ...]:
    decoding = np.array([isinstance(look, Look) for look in looks], bool)
    counts = np.bincount(dataset.labels[decoding], minlength=len(class_names))
    return tuple(
        SmallClass(name, int(count))
        for name, count in zip(class_names, counts, strict=True)
        if count < FEWEST_IMAGES
    )


def _spread(numbers: Sequence[int]) -> Spread:
    return Spread(float(min(numbers)), float(np.median(numbers)), float(max(numbers)))


def _counts(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items(), key=lambda item: (-item[1], item[0])))


def _groups(dataset: Dataset) -> tuple[Group, ...] | None:
    if dataset.groups is None:
        return None
    classes, images = Counter(dataset.groups), Counter[str]()
    for group, size in zip(dataset.groups, _class_sizes(dataset), strict=True):
        images[group] += size
    return tuple(Group(as_text(name), classes[name], images[name]) for name in sorted(classes))
