"""Import and export of ladders: published split files and CSV, matched to the classes of data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from oodml.data.dataset import Dataset
from oodml.errors import DataError, unknown_name
from oodml.features.features import Features, FeatureSource
from oodml.splits.episodes import (
    MIN_QUERIES,
    SHOTS,
    Episodes,
    LabelledSamples,
    few_shot_episodes,
    renamed_episodes,
    validation_of,
)
from oodml.splits.formats.csv import read_csv, write_csv
from oodml.splits.formats.published_pickle import PublishedSplit, read_published, write_published
from oodml.splits.ladder import NOT_STATED, BuildSettings, Ladder, Step
from oodml.splits.split import Split

FORMATS = ("csv", "json", "pickle")
PUBLISHED_BACKBONE = "ResNet-50, as published"


@dataclass(frozen=True)
class ClassMatch:
    """Published classes and the classes of the data that they are, and those without a match."""

    matched: dict[str, str]
    missing_in_data: tuple[str, ...]
    missing_in_splits: tuple[str, ...]

    def report(self, most: int = 5) -> str:
        """One line: how many match, and the names that do not."""
        renamed = sum(ours != theirs for theirs, ours in self.matched.items())
        parts = [f"{len(self.matched)} classes match" + (f" ({renamed} respelt)" * bool(renamed))]
        for names, place in (
            (self.missing_in_data, "missing in the data"),
            (self.missing_in_splits, "in the data and in no split"),
        ):
            if names:
                rest = f" and {len(names) - most} more" if len(names) > most else ""
                parts.append(f"{len(names)} {place}: {', '.join(names[:most])}{rest}")
        return "; ".join(parts) + "."


def read_splits(path: str | Path) -> tuple[PublishedSplit, ...]:
    """The splits in a published pickle or in a CSV with the columns rung, fid, side, class."""
    return read_csv(path) if is_csv(path) else read_published(path)


def is_csv(path: str | Path) -> bool:
    """Whether a file of splits is a CSV, which does not state how its FIDs were measured."""
    return Path(path).suffix.lower() == ".csv"


def imported_ladder(
    splits: Sequence[PublishedSplit], name: str, *, published: bool = True
) -> Ladder:
    """The ladder of splits that were made elsewhere, with their FIDs, which are not measured here.

    `name` is the name of the dataset. The FIDs of `published` splits are at class level, of
    ResNet-50; of others (a CSV) level and network are not stated. Validation classes and episodes
    come along. Raises `DataError` if FIDs do not rise or a class is on both sides.
    """
    ordered = sorted(splits, key=lambda split: split.fid)
    if [split.key for split in ordered] != [split.key for split in splits]:
        raise DataError(
            "the FIDs of the splits do not rise with their numbers: "
            + ", ".join(f"{split.key}: {split.fid:.4g}" for split in splits)
            + "."
        )
    rungs = [Split(s.train_classes, s.test_classes, published_fid=s.fid) for s in splits]
    sides = [len(s.train_classes) for s in splits], [len(s.test_classes) for s in splits]
    return Ladder(
        features=FeatureSource(
            name, "", PUBLISHED_BACKBONE, "as published", "resize 256, crop 224", "fp32"
        )
        if published
        else FeatureSource(name, "", NOT_STATED, NOT_STATED, NOT_STATED, NOT_STATED),
        source="",
        class_sizes=dict.fromkeys(sorted({c for s in rungs for c in _classes(s)}), 0),
        settings=BuildSettings(
            rungs=len(rungs),
            seed=0,
            level="class" if published else NOT_STATED,
            train_fraction=sides[0][0] / (sides[0][0] + sides[1][0]),
            swap_size=2,
            min_classes=min(sides[0] + sides[1]),
            search="milbich2021" if published else NOT_STATED,
            start="imported",
        ),
        trajectory=steps_between(rungs),
        stopped="imported",
        rung_steps=tuple(range(len(rungs))),
        rungs=tuple(rungs),
        validation=tuple(tuple(sorted(s.validation_classes)) for s in splits)
        if any(s.validation_classes for s in splits)
        else (),
        episodes=tuple(s.episodes for s in splits) if any(s.episodes for s in splits) else (),
    )


def match_classes(published: Iterable[str], data: Iterable[str]) -> ClassMatch:
    """Published class names matched to those of a dataset: as they are, else by letters and digits.

    The comparison by letters ignores case, punctuation and a leading number
    ("001.Black_footed_Albatross" is "Black-footed Albatross"), and is used only where it is unique
    on both sides.
    """
    theirs, ours = sorted(set(published)), sorted(set(data))
    matched = {name: name for name in set(theirs) & set(ours)}
    free = [name for name in ours if name not in matched]
    open_names = [name for name in theirs if name not in matched]
    count = Counter(_letters(name) for name in open_names)
    by_letters: dict[str, list[str]] = {}
    for name in free:
        by_letters.setdefault(_letters(name), []).append(name)
    for name in open_names:
        found = by_letters.get(_letters(name), [])
        if len(found) == 1 and count[_letters(name)] == 1:
            matched[name] = found[0]
    taken = set(matched.values())
    return ClassMatch(
        dict(sorted(matched.items())),
        tuple(name for name in theirs if name not in matched),
        tuple(name for name in ours if name not in taken),
    )


def with_data(ladder: Ladder, match: ClassMatch, samples: LabelledSamples, source: str) -> Ladder:
    """The imported ladder in the class names and sizes of a dataset, its FIDs as they were.

    The ladder bears the dataset's name and fingerprint from then on. Raises `DataError` with the
    report if the data lacks a class of the splits.
    """
    if match.missing_in_data:
        raise DataError(f"the data is not that of the splits: {match.report()}")
    names = match.matched
    counts = Counter(samples.labels.tolist())
    sizes = {name: counts[label] for label, name in enumerate(samples.class_names)}
    return replace(
        ladder,
        features=_of_data(ladder.features, samples),
        source=source,
        class_sizes=dict(sorted(sizes.items())),
        rungs=tuple(
            replace(rung, train_classes=_renamed(rung.train_classes, names),
                    test_classes=_renamed(rung.test_classes, names))
            for rung in ladder.rungs
        ),
        trajectory=tuple(
            replace(step, to_test=_renamed(step.to_test, names),
                    to_train=_renamed(step.to_train, names),
                    removed=_renamed(step.removed, names))
            for step in ladder.trajectory
        ),
        validation=tuple(_renamed(held_out, names) for held_out in ladder.validation),
        episodes=tuple(renamed_episodes(episodes, names) for episodes in ladder.episodes),
    )  # fmt: skip


def steps_between(rungs: Sequence[Split]) -> tuple[Step, ...]:
    """One step per rung: all that is known of how a ladder of given splits came about."""
    steps = [Step("start", rungs[0].fid)]
    for before, rung in pairwise(rungs):
        train, test = set(before.train_classes), set(before.test_classes)
        now_train, now_test = set(rung.train_classes), set(rung.test_classes)
        removed = (train | test) - now_train - now_test
        steps.append(
            Step(
                "removal" if removed else "swap",
                rung.fid,
                tuple(sorted(train & now_test)),
                tuple(sorted(test & now_train)),
                tuple(sorted(removed)),
            )
        )
    return tuple(steps)


def export_ladder(
    ladder: Ladder,
    path: str | Path,
    file_format: str,
    samples: LabelledSamples | None = None,
    *,
    seed: int = 0,
) -> None:
    """Write the ladder as "json" (its own file), "csv" (a line a class) or "pickle" (published).

    Rungs are numbered from 0, but from 1 in the pickle, as in the published files. Validation
    classes are those that the ladder came with, else drawn by `seed`. The CSV holds no episodes;
    the pickle those that the ladder came with, or drawn ones with `samples` that have names. Only
    the JSON holds what oodml measured besides FID.
    """
    if file_format not in FORMATS:
        raise unknown_name("format", file_format, FORMATS)
    if file_format == "json":
        ladder.save(path)
        return
    if file_format == "csv":
        write_csv(published_splits(ladder, seed=seed, first=0), path)
    else:
        write_published(published_splits(ladder, samples, seed=seed), path)


def published_splits(
    ladder: Ladder, samples: LabelledSamples | None = None, *, seed: int = 0, first: int = 1
) -> tuple[PublishedSplit, ...]:
    """The rungs as published splits, numbered from `first`, with the episodes they came with.

    Where they came with none, 2, 5 and 10 shots x 10 are drawn if `samples` are given. A class too
    small for a number of shots is left out of those episodes, and shots that no test class is large
    enough for are left out altogether.
    """
    return tuple(
        PublishedSplit(
            first + number,
            rung.train_classes,
            rung.test_classes,
            rung.fid,
            validation_of(ladder, number, seed=seed).validation_classes,
            _episodes(ladder, number, samples, seed),
        )
        for number, rung in enumerate(ladder.rungs)
    )


def _of_data(features: FeatureSource, samples: LabelledSamples) -> FeatureSource:
    """The same network, or what is known of it, on the images of `samples`."""
    if isinstance(samples, Dataset):
        return features.with_data(samples.name, samples.fingerprint)
    if isinstance(samples, Features):
        return features.with_data(samples.source.dataset, samples.source.fingerprint)
    return features


def _classes(split: Split) -> tuple[str, ...]:
    return split.train_classes + split.test_classes


def _renamed(names: Iterable[str], matched: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(matched[name] for name in names))


def _letters(name: str) -> str:
    words = re.sub(r"[\W_]+", " ", name.casefold()).split()
    return "".join(words[1:] if len(words) > 1 and re.match(r"\d+\W", name) else words)


def _episodes(ladder: Ladder, number: int, samples: LabelledSamples | None, seed: int) -> Episodes:
    if ladder.episodes and ladder.episodes[number]:
        return ladder.episodes[number]
    return {} if samples is None else _drawn(ladder.rungs[number], samples, seed)


def _drawn(rung: Split, samples: LabelledSamples, seed: int) -> Episodes:
    counts = np.bincount(samples.labels, minlength=len(samples.class_names))
    wanted = set(rung.test_classes)
    sizes = [n for name, n in zip(samples.class_names, counts, strict=True) if name in wanted]
    shots = [count for count in SHOTS if max(sizes, default=0) >= count + MIN_QUERIES]
    content: Episodes = {count: {} for count in shots}
    for episode in few_shot_episodes(rung, samples, shots=shots, seed=seed) if shots else ():
        content[episode.shots][episode.number] = _file_names(samples, episode.support.tolist())
    return content


def _file_names(samples: LabelledSamples, rows: list[int]) -> dict[str, tuple[str, ...]]:
    """Class -> file names without folders, as the published files have them."""
    named: dict[str, tuple[str, ...]] = {}
    for row in rows:
        name = samples.class_names[samples.labels[row]]
        file_name = PurePosixPath(samples.sample_names[row]).name
        named[name] = (*named.get(name, ()), file_name)
    return named
