"""Validation classes, folds and few-shot episodes of a rung.

They are drawn by a seed and the split's id, so two machines that share a ladder share every episode
without a file. Those that came with published splits, which no seed draws again, are kept in the
ladder by sample name and found again in the data.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError, UsageError
from oodml.records import checked_value
from oodml.seeding import generator
from oodml.splits.split import Split

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder

LOG = logging.getLogger("oodml")
# A query needs another query of its class to find; with fewer an episode cannot be scored.
MIN_QUERIES = 2
SHOTS = (2, 5, 10)
EPISODES = 10
Rows = npt.NDArray[np.int64]
# class -> names of its support images (none: the whole class is support)
Support = dict[str, tuple[str, ...]]
# shots -> episode -> support
Episodes = dict[int, dict[int, Support]]


class LabelledSamples(Protocol):
    """Anything with class names, one label per sample and sample names: features or a dataset."""

    @property
    def labels(self) -> npt.NDArray[np.int64]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def sample_names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Fold:
    """Training classes to fit on, and the held-out ones to select on; both sorted."""

    fit_classes: tuple[str, ...]
    validation_classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Episode:
    """One few-shot episode: `shots` samples of every kept test class, and all their others.

    `support` and `query` are ascending sample indices (int64). `left_out` names the test classes
    with fewer than `shots + 2` samples, of which nothing is in the episode. `published` is True for
    an episode that came with the split.
    """

    shots: int
    number: int
    support: Rows
    query: Rows
    left_out: tuple[str, ...]
    published: bool = False


def validation_fold(split: Split, *, fraction: float = 0.25, seed: int = 0) -> Fold:
    """The split's train classes, `fraction` of them (halves rounded up) held out by seed.

    A quarter is what the published splits hold out (arXiv:2107.09562). Raises `UsageError` when
    fewer than one class would be left on either side.
    """
    names = split.train_classes
    held_out = int(fraction * len(names) + 0.5) if 0 < fraction < 1 else 0
    if not 0 < held_out < len(names):
        raise UsageError(
            f"a validation fraction of {fraction} leaves {held_out} of {len(names)} train classes "
            "for validation; at least 1 must be held out and 1 kept."
        )
    order = generator(seed, "validation", split.id).permutation(len(names))
    return _fold(names, order[:held_out])


def validation_of(ladder: Ladder, rung: int, *, fraction: float = 0.25, seed: int = 0) -> Fold:
    """The validation fold of a rung: the published one if the rung came with it, else drawn."""
    split = ladder.rungs[rung]
    if not ladder.validation or not ladder.validation[rung]:
        return validation_fold(split, fraction=fraction, seed=seed)
    held_out = set(ladder.validation[rung])
    return _fold(
        split.train_classes,
        np.array([i for i, name in enumerate(split.train_classes) if name in held_out]),
    )


def class_folds(split: Split, folds: int, *, seed: int = 0) -> tuple[Fold, ...]:
    """`folds` folds whose validation classes are disjoint and together all train classes.

    Their sizes differ by one at most. Raises `UsageError` unless 2 <= folds <= train classes.
    """
    names = split.train_classes
    if not 2 <= folds <= len(names):
        raise UsageError(
            f"{folds} folds of {len(names)} train classes: allowed are 2 to that many."
        )
    order = generator(seed, "folds", split.id).permutation(len(names))
    return tuple(_fold(names, part) for part in np.array_split(order, folds))


def few_shot_episodes(
    split: Split,
    samples: LabelledSamples,
    *,
    shots: Sequence[int] = SHOTS,
    episodes: int = EPISODES,
    seed: int = 0,
) -> tuple[Episode, ...]:
    """The episodes of a split's test classes, by shots, then number.

    Draws are nested: in one episode the support of fewer shots is part of the support of more, so
    that more shots differ by their number alone. A draw depends on the seed, the
    split, the number and the class, not on the order of samples (if they have names), nor on
    which other shots were asked for. Raises `UsageError` for shots below 1, `DataError` if no
    class is large enough for some number of shots or a class has no samples.
    """
    if not shots or min(shots) < 1 or episodes < 1:
        raise UsageError(f"{list(shots)} shots, {episodes} episodes: give numbers above 0.")
    rows = _rows_by_class(samples, split.test_classes)
    return tuple(
        _episode(split, rows, count, number, seed) for count in shots for number in range(episodes)
    )


def episodes_of(
    ladder: Ladder,
    rung: int,
    samples: LabelledSamples,
    *,
    shots: Sequence[int] = SHOTS,
    episodes: int = EPISODES,
    seed: int = 0,
) -> tuple[Episode, ...]:
    """The episodes of a rung: the published ones if the ladder came with them, else drawn.

    As `few_shot_episodes`, per number of shots. Published ones are taken where there are as many
    as asked for and all their samples are in the data; where not, the log says so. An episode that
    is made of whole classes has all samples of the other test classes as its query.
    """
    split = ladder.rungs[rung]
    published = ladder.episodes[rung] if ladder.episodes else {}
    rows = _rows_by_class(samples, split.test_classes) if published else {}
    found: list[Episode] = []
    for count in shots:
        known = _found(published.get(count, {}), count, episodes, rows, samples)
        if published and not known:
            LOG.warning(
                "rung %d, %d shots: the published episodes are fewer than %d or name samples that "
                "are not in the data; drawn ones take their place.",
                rung, count, episodes,
            )  # fmt: skip
        found += known or few_shot_episodes(
            split, samples, shots=(count,), episodes=episodes, seed=seed
        )
    return tuple(found)


def episodes_to_json(episodes: Episodes) -> dict[str, Any]:
    """Episodes as JSON has them: numbers as text, names as lists."""
    return {
        str(shots): {
            str(number): {name: list(images) for name, images in support.items()}
            for number, support in numbered.items()
        }
        for shots, numbered in episodes.items()
    }


def episodes_from_json(record: Any) -> Episodes:
    """The episodes that `episodes_to_json` wrote; raises `DataError` for another layout."""
    layout = dict[str, dict[str, dict[str, tuple[str, ...]]]]
    checked = checked_value(layout, record, "episodes", "a ladder")
    return {
        _number(shots): {_number(number): support for number, support in numbered.items()}
        for shots, numbered in checked.items()
    }


def check_episodes(episodes: Episodes, test_classes: Sequence[str], rung: int) -> None:
    """Raise `DataError` if an episode of the rung is empty or names a class of another side."""
    known = set(test_classes)
    for shots, numbered in episodes.items():
        for number, support in numbered.items():
            if not support or not set(support) <= known:
                raise DataError(
                    f"rung {rung}, {shots} shots, episode {number} is empty or has classes "
                    "outside the test classes."
                )


def renamed_episodes(episodes: Episodes, names: Mapping[str, str]) -> Episodes:
    """The same episodes with each class under its name in `names`."""
    return {
        shots: {
            number: {names[name]: images for name, images in support.items()}
            for number, support in numbered.items()
        }
        for shots, numbered in episodes.items()
    }


def support_rows(
    support: Support, rows: Mapping[str, Rows], sample_names: Sequence[str]
) -> Rows | None:
    """The ascending sample indices of an episode's support; None if they are not all in the data.

    `rows` holds the sample indices of every test class. Published names carry no folder, so a
    sample is known by the last part of its name, within its class. All indices are int64 arrays
    (n,).
    """
    found = []
    for name, images in support.items():
        own = rows[name].tolist()
        if images and not sample_names:
            return None
        if images:
            wanted = set(images)
            own = [row for row in own if PurePosixPath(sample_names[row]).name in wanted]
            if len(own) != len(wanted):
                return None
        found += own
    return np.array(sorted(found), dtype=np.int64)


def is_whole(support: Support) -> bool:
    """Whether the support is made of whole classes, and the query of all others."""
    return not any(support.values())


def _found(
    numbered: dict[int, Support],
    shots: int,
    episodes: int,
    rows: dict[str, Rows],
    samples: LabelledSamples,
) -> list[Episode]:
    """The first `episodes` of them, none if one is missing."""
    found = []
    for number in sorted(numbered)[:episodes]:
        support = numbered[number]
        own = support_rows(support, rows, samples.sample_names)
        if own is None:
            return []
        asked = [name for name in rows if is_whole(support) or name in support]
        everything = np.concatenate([rows[name] for name in asked])
        left_out = tuple(name for name in rows if name not in set(asked))
        query = np.setdiff1d(everything, own)
        found.append(Episode(shots, number, own, query, left_out, published=True))
    return found if len(found) == episodes else []


def _episode(split: Split, rows: dict[str, Rows], shots: int, number: int, seed: int) -> Episode:
    kept = [name for name, own in rows.items() if len(own) >= shots + MIN_QUERIES]
    if not kept:
        raise DataError(
            f"{shots} shots: no test class of split {split.id} has {shots + MIN_QUERIES} samples "
            f"({shots} to learn from, {MIN_QUERIES} to find each other); give fewer shots."
        )
    support, query = [], []
    for name in kept:
        own = generator(seed, "episode", split.id, number, name).permutation(rows[name])
        support.append(own[:shots])
        query.append(own[shots:])
    left_out = tuple(name for name in rows if name not in set(kept))
    return Episode(
        shots, number, np.sort(np.concatenate(support)), np.sort(np.concatenate(query)), left_out
    )


def _rows_by_class(samples: LabelledSamples, names: Sequence[str]) -> dict[str, Rows]:
    """Every class's sample indices, in the order of the sample names."""
    labels = samples.labels.tolist()
    named: Sequence[Any] = samples.sample_names or tuple(range(len(labels)))
    rows: dict[int, list[int]] = {}
    for row in sorted(range(len(labels)), key=lambda row: named[row]):
        rows.setdefault(labels[row], []).append(row)
    by_name = {name: rows.get(label, []) for label, name in enumerate(samples.class_names)}
    for name in names:
        if not by_name.get(name):
            raise DataError(f"class {name!r} of the split has no samples in the data given.")
    return {name: np.array(by_name[name], dtype=np.int64) for name in names}


def _fold(names: tuple[str, ...], held_out: npt.NDArray[np.int64]) -> Fold:
    chosen = set(held_out.tolist())
    return Fold(
        tuple(name for i, name in enumerate(names) if i not in chosen),
        tuple(name for i, name in enumerate(names) if i in chosen),
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise DataError(f"{text[:20]!r} is no number of shots or of an episode.")
    return int(text)
