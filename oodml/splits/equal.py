"""Equal size: every rung cut to the class and image counts of the smallest, by a seeded choice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oodml.errors import UsageError
from oodml.fid.shift import shift_of
from oodml.fid.statistics import ClassMoments
from oodml.fid.terms import split_terms
from oodml.seeding import generator
from oodml.splits.split import Split

if TYPE_CHECKING:
    from oodml.features.features import Features

LOG = logging.getLogger("oodml")
Rows = npt.NDArray[np.int64]


def split_rows(split: Split, features: Features) -> tuple[Rows, Rows]:
    """The sample indices of both sides, train and test, ascending: all, or those that were kept.

    Of a class in `split.images_kept` the named number of samples takes part, chosen by
    `split.kept_seed` and the class's name from its samples in their order.
    """
    kept = dict(split.images_kept)
    return (
        _rows(split.train_classes, kept, split.kept_seed, features),
        _rows(split.test_classes, kept, split.kept_seed, features),
    )


def split_features(split: Split, features: Features) -> Features:
    """The features of the samples that take part in a split."""
    names = tuple(sorted(split.train_classes + split.test_classes))
    rows = np.sort(np.concatenate(split_rows(split, features)))
    number = {name: index for index, name in enumerate(names)}
    labels = np.array([number[features.class_names[label]] for label in features.labels[rows]])
    groups = features.groups and dict(zip(features.class_names, features.groups, strict=True))
    return replace(
        features,
        values=features.values[rows],
        labels=labels.astype(np.int64),
        class_names=names,
        sample_names=tuple(features.sample_names[i] for i in rows) if features.sample_names else (),
        groups=tuple(groups[name] for name in names) if groups else None,
    )


def equal_sized(
    features: Features, splits: Sequence[Split], *, level: str, seed: int
) -> tuple[list[Split], list[int]]:
    """The splits at the size of the smallest on each side, measured again, and which they are.

    Classes are drawn by seed; then images are taken from the largest classes until all sides hold
    as many. A split whose distance no longer exceeds those before it is left out, with a warning.
    """
    train = min(len(split.train_classes) for split in splits)
    test = min(len(split.test_classes) for split in splits)
    drawn = [_fewer_classes(split, train, test, seed) for split in splits]
    sizes = dict(zip(features.class_names, np.bincount(features.labels).tolist(), strict=True))
    images = [
        min(sum(sizes[name] for name in side) for side in sides)
        for sides in (
            [split.train_classes for split in drawn],
            [split.test_classes for split in drawn],
        )
    ]
    equal: list[Split] = []
    kept: list[int] = []
    for number, split in enumerate(drawn):
        caps = _capped(split.train_classes, sizes, images[0])
        caps += _capped(split.test_classes, sizes, images[1])
        measured = _measured(
            replace(split, images_kept=tuple(sorted(caps)), kept_seed=seed), features, level
        )
        if equal and measured.fid <= equal[-1].fid:
            LOG.warning(
                "rung %d left out: at equal size its FID %.4g is not above %.4g.",
                number, measured.fid, equal[-1].fid,
            )  # fmt: skip
            continue
        equal.append(measured)
        kept.append(number)
    if len(equal) < 2:
        raise UsageError("at equal size no rung lies above the first; build without --equal-size.")
    return equal, kept


def _rows(names: Sequence[str], kept: dict[str, int], seed: int, features: Features) -> Rows:
    if not kept:
        return np.asarray(features.of_classes(names), dtype=np.int64)
    chosen = []
    for name in names:
        rows = np.asarray(features.of_classes([name]), dtype=np.int64)
        if name in kept:
            order = generator(seed, "equal size images", name).permutation(len(rows))
            rows = rows[order[: kept[name]]]
        chosen.append(rows)
    return np.sort(np.concatenate(chosen))


def _fewer_classes(split: Split, train: int, test: int, seed: int) -> Split:
    def draw(names: tuple[str, ...], count: int, side: str) -> tuple[str, ...]:
        order = generator(seed, "equal size classes", split.id, side).permutation(len(names))
        return tuple(names[i] for i in order[:count])

    return Split(draw(split.train_classes, train, "train"), draw(split.test_classes, test, "test"))


def _capped(names: Sequence[str], sizes: dict[str, int], images: int) -> list[tuple[str, int]]:
    """The classes that must give up images, with what they keep, so that `images` remain."""
    cap = max(sizes[name] for name in names)
    while sum(min(sizes[name], cap) for name in names) > images:
        cap -= 1
    spare = images - sum(min(sizes[name], cap) for name in names)
    caps = []
    for name in names:
        if sizes[name] > cap:
            keep = cap + 1 if spare > 0 else cap
            spare -= keep - cap
            if keep < sizes[name]:
                caps.append((name, keep))
    return caps


def _measured(split: Split, features: Features, level: str) -> Split:
    statistics = ClassMoments.from_features(split_features(split, features), level)
    sides = statistics.indices(split.train_classes), statistics.indices(split.test_classes)
    return replace(split, shift=shift_of(statistics, *sides, split_terms(statistics, *sides)))
