"""check_dataset: the faults and duplicates of a pool of images, as a record and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oodml.data.check.duplicates import (
    MAX_DISTANCE,
    Duplicates,
    DuplicateSet,
    Integers,
    Leak,
    find_duplicates,
)
from oodml.data.check.images import Look, look_at_all
from oodml.data.collections.download import Counts, count
from oodml.data.collections.registry import all_collections
from oodml.data.dataset import FEWEST_IMAGES, Dataset
from oodml.data.load import list_dataset
from oodml.files import write_json
from oodml.text import as_text, first_few

SCHEMA = 2
_MOST = 5


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
    report = replace(
        _report(dataset, refused, looks, duplicates), counts=_count_of_collection(source, dataset)
    )
    return PoolCheck(dataset, decoding, duplicates, report)


@dataclass(frozen=True)
class Spread:
    """The smallest, the middle and the largest of some numbers."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class Named:
    """An image and what is wrong with it."""

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
    """Everything that `oodml dataset check` finds; lists are complete.

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
        """True if nothing was found that stops a run or would inflate a result."""
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


def report_lines(report: PoolReport, *, most: int = _MOST) -> Iterator[str]:
    """The lines of the report: leakage, duplicates, broken, small classes, sizes, groups.

    Every list shows its first `most` entries and how many more there are.
    """
    groups = f", {len(report.groups)} groups" if report.groups else ""
    yield (
        f"{report.source}: {report.images:,} images of {report.classes:,} classes{groups}, "
        f"fingerprint {report.fingerprint}"
    )
    if report.sound:
        yield "nothing wrong was found"
    yield from _counts_lines(report.counts)
    yield from _ladder(report.ladder, most)
    yield from _sets(
        "across classes, which leak from training into test", report.across_classes, most
    )
    yield from _sets("within a class", report.within_classes, most)
    yield from _broken(report, most)
    yield from _refused(report.refused, most)
    yield from _facts(report, most)


def _count_of_collection(source: str | Path, dataset: Dataset) -> Counts | None:
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


def _counts_lines(counts: Counts | None) -> Iterator[str]:
    if counts is not None and not counts.right:
        pairs = (
            (counts.found_classes, counts.expected_classes, "classes"),
            (counts.found_images, counts.expected_images, "images"),
        )
        told = [f"{found:,} of {expected:,} {what}" for found, expected, what in pairs if expected]
        yield f"not what the collection was published with: found are {' and '.join(told)}"


def _ladder(ladder: Sequence[Leak] | None, most: int) -> Iterator[str]:
    for leak in ladder or ():
        share = 100 * (leak.exact + leak.near) / max(1, leak.test_images)
        yield (
            f"rung {leak.rung}: {leak.exact + leak.near:,} of {leak.test_images:,} test images "
            f"({share:.2f}%) have a copy in training: {leak.exact:,} exact, {leak.near:,} near"
        )
    for test, train in next((leak.examples for leak in ladder or () if leak.examples), ())[:most]:
        yield f"  {test!r} is in training as {train!r}"


def _sets(where: str, sets: Sequence[DuplicateSet], most: int) -> Iterator[str]:
    if not sets:
        return
    exact = sum(each.kind == "exact" for each in sets)
    images = sum(len(each.images) for each in sets)
    yield (
        f"duplicates {where}: {_number_of(len(sets), 'set')} of {images:,} images in all "
        f"({exact:,} exact, {len(sets) - exact:,} near)"
    )
    for each in sets[:most]:
        kind = "exact" if each.kind == "exact" else f"near, {each.distance} bits"
        yield f"  {first_few(each.images, 3)} ({kind})"
    yield from _more(sets, most)


def _broken(report: PoolReport, most: int) -> Iterator[str]:
    yield from _named("images that do not decode", report.broken, most)
    if report.small_classes:
        small = [f"{each.name!r} ({each.images})" for each in report.small_classes[:most]]
        yield (
            f"classes with fewer than {FEWEST_IMAGES} images that decode: "
            f"{len(report.small_classes):,}"
        )
        yield f"  {', '.join(small)}"
        yield from _more(report.small_classes, most)
    if report.blank:
        yield f"blank images, all one colour: {len(report.blank):,}"
        yield f"  {first_few(report.blank, most)}"
    yield from _named("files whose suffix is not their format", report.wrong_suffixes, most)


def _named(what: str, entries: Sequence[Named], most: int) -> Iterator[str]:
    if entries:
        yield f"{what}: {len(entries):,}"
        yield from (f"  {each.name!r}: {each.about}" for each in entries[:most])
        yield from _more(entries, most)


def _refused(lines: Sequence[str], most: int) -> Iterator[str]:
    if lines:
        yield f"other commands refuse this pool, for {_number_of(len(lines), 'reason')}:"
        yield from (f"  {line}" for line in lines[:most])
        yield from _more(lines, most)


def _facts(report: PoolReport, most: int) -> Iterator[str]:
    yield f"images per class: {_spread_text(report.class_sizes)}"
    if report.widths and report.heights:
        widths, heights = _spread_text(report.widths), _spread_text(report.heights)
        yield f"width: {widths} pixels; height: {heights} pixels"
        yield f"formats: {_counts_text(report.formats)}; modes: {_counts_text(report.modes)}"
    for group in (report.groups or ())[: 2 * most]:
        classes, images = _number_of(group.classes, "class"), _number_of(group.images, "image")
        yield f"group {group.name!r}: {classes}, {images}"
    yield from _more(report.groups or (), 2 * most)
    if report.searched_distance < report.max_distance:
        reach = report.searched_distance
        searched = (
            f"listed are those whose image hashes differ in at most {reach} of 256 bits"
            if reach >= 0
            else "listed are exact ones alone"
        )
        yield f"too many near duplicates to list all: {searched}"
    else:
        yield (
            "near: duplicates that look alike, as resized or recompressed copies do; their image "
            f"hashes differ in at most {report.max_distance} of 256 bits"
        )


def _number_of(count: int, noun: str) -> str:
    plural = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{plural}"


def _spread_text(spread: Spread) -> str:
    return f"{spread.smallest:g} to {spread.largest:g}, median {spread.median:g}"


def _counts_text(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _more(entries: Sequence[object], most: int) -> Iterator[str]:
    if len(entries) > most:
        yield f"  and {len(entries) - most:,} more"
