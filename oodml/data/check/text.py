"""The report on a pool as one screen of text, what matters most first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from oodml.data.check.duplicates import DuplicateSet
from oodml.data.check.leakage import Leak
from oodml.data.check.report import Named, PoolReport, Spread
from oodml.data.collections.verified import Counts
from oodml.data.samples import FEWEST_IMAGES, first_few

_MOST = 5


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
    yield from _counted(report.counts)
    yield from _ladder(report.ladder, most)
    yield from _sets(
        "across classes, which leak from training into test", report.across_classes, most
    )
    yield from _sets("within a class", report.within_classes, most)
    yield from _broken(report, most)
    yield from _refused(report.refused, most)
    yield from _facts(report, most)


def _counted(counts: Counts | None) -> Iterator[str]:
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
        f"duplicates {where}: {_number(len(sets), 'set')} of {images:,} images in all "
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
        yield f"other commands refuse this pool, for {_number(len(lines), 'reason')}:"
        yield from (f"  {line}" for line in lines[:most])
        yield from _more(lines, most)


def _facts(report: PoolReport, most: int) -> Iterator[str]:
    yield f"images per class: {_spread(report.class_sizes)}"
    if report.widths and report.heights:
        yield f"width: {_spread(report.widths)} pixels; height: {_spread(report.heights)} pixels"
        yield f"formats: {_counts(report.formats)}; modes: {_counts(report.modes)}"
    for group in (report.groups or ())[: 2 * most]:
        classes, images = _number(group.classes, "class"), _number(group.images, "image")
        yield f"group {group.name!r}: {classes}, {images}"
    yield from _more(report.groups or (), 2 * most)
    if report.searched_distance < report.max_distance:
        reach = report.searched_distance
        searched = (
            f"only within {reach} bits" if reach >= 0 else "not at all; only equal pixels are"
        )
        yield f"too many near duplicates to list: they were searched {searched} of 256"
    else:
        yield f"near: at most {report.max_distance} of 256 bits apart (--max-distance)"


def _number(count: int, noun: str) -> str:
    plural = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{plural}"


def _spread(spread: Spread) -> str:
    return f"{spread.smallest:g} to {spread.largest:g}, median {spread.median:g}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _more(entries: Sequence[object], most: int) -> Iterator[str]:
    if len(entries) > most:
        yield f"  and {len(entries) - most:,} more"
