"""Ladders for others: JSON, CSV, and the layout of the published files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from oodml.errors import unknown_name
from oodml.splits.class_table import write_class_table
from oodml.splits.episodes import (
    MIN_QUERIES,
    SHOTS,
    LabelledSamples,
    few_shot_episodes,
    validation_of,
)
from oodml.splits.ladder import Ladder
from oodml.splits.published import PublishedSplit, write_published
from oodml.splits.published_episodes import Episodes
from oodml.splits.split import Split

FORMATS = ("csv", "json", "pickle")


def export_ladder(
    ladder: Ladder,
    path: str | Path,
    file_format: str,
    samples: LabelledSamples | None = None,
    *,
    seed: int = 0,
) -> None:
    """Write the ladder as "json" (its own file), "csv" (a line a class) or "pickle" (published).

    Rungs are numbered from 1 in the last two, as in the published files. Validation classes are
    those that the ladder came with, else drawn by `seed`. The CSV holds no episodes; the pickle
    those that the ladder came with, or drawn ones with `samples` that have names. Only the JSON
    holds what oodml measured besides FID.
    """
    if file_format not in FORMATS:
        raise unknown_name("format", file_format, FORMATS)
    if file_format == "json":
        ladder.save(path)
        return
    splits = published_splits(ladder, samples, seed=seed)
    (write_class_table if file_format == "csv" else write_published)(splits, path)


def published_splits(
    ladder: Ladder, samples: LabelledSamples | None = None, *, seed: int = 0
) -> tuple[PublishedSplit, ...]:
    """The rungs as published splits, with the episodes that they came with.

    Where they came with none, 2, 5 and 10 shots x 10 are drawn if `samples` are given. A class too
    small for a number of shots is left out of those episodes, and shots that no test class is large
    enough for are left out altogether.
    """
    return tuple(
        PublishedSplit(
            number + 1,
            rung.train_classes,
            rung.test_classes,
            rung.fid,
            validation_of(ladder, number, seed=seed).validation_classes,
            _episodes(ladder, number, samples, seed),
        )
        for number, rung in enumerate(ladder.rungs)
    )


def _episodes(ladder: Ladder, number: int, samples: LabelledSamples | None, seed: int) -> Episodes:
    if ladder.episodes:
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
