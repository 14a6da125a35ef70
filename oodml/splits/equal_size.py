"""Galleries of equal size: seeded subsamples of test classes and images, one size per ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from oodml.errors import UsageError
from oodml.features.features import Features
from oodml.seeding import generator
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split

# A query needs another sample of its class.
_KEPT_PER_CLASS = 2
Rows = npt.NDArray[np.int64]


def gallery_classes_of(split: Split, count: int, seed: int) -> tuple[str, ...]:
    """`count` of the split's test classes, drawn by seed and split, sorted; all of them for 0.

    Draws are nested: the classes of a smaller `count` are among those of a larger one. Raises
    `UsageError` if the split has fewer.
    """
    names = split.test_classes
    if count == 0:
        return names
    if not 2 <= count <= len(names):
        raise UsageError(
            f"a gallery of {count} classes: split {split.id} allows 2 to its {len(names)} test "
            "classes."
        )
    order = generator(seed, "gallery classes", split.id).permutation(len(names))
    return tuple(sorted(names[index] for index in order[:count]))


def subsample(labels: npt.NDArray[np.int64], count: int, seed: int, *purpose: str) -> Rows:
    """`count` of the samples, ascending, two of every class that has two; all of them for 0.

    Raises `UsageError` if there are fewer samples, or too many classes for two of each. `labels` is
    (n,) int64.
    """
    if count == 0:
        return np.arange(len(labels))
    order = generator(seed, "samples", *purpose).permutation(len(labels))
    # The first two of each class in the random order come first, then the others in that order.
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, starts = np.unique(labels[by_class], return_index=True)
    place = np.arange(len(labels)) - np.repeat(starts, np.diff([*starts, len(labels)]))
    needed = set(by_class[place < _KEPT_PER_CLASS].tolist())
    if not len(needed) <= count <= len(labels):
        raise UsageError(
            f"{count} samples: allowed are {len(needed)} (two a class) to {len(labels)} here."
        )
    ranked = [*sorted(needed), *(row for row in order.tolist() if row not in needed)]
    return np.sort(np.array(ranked[:count], dtype=np.int64))


def gallery_of(features: Features, split: Split, classes: int, images: int, seed: int) -> Features:
    """The features (or embeddings) of the test classes that are evaluated.

    All of them, or so many `classes` and `images`, drawn as above; 0 stands for all.
    """
    if not classes and not images:
        return features
    chosen = features.subset(gallery_classes_of(split, classes, seed))
    rows = subsample(chosen.labels, images, seed, "gallery", split.id)
    names = chosen.sample_names
    return replace(
        chosen,
        values=chosen.values[rows],
        labels=chosen.labels[rows],
        sample_names=tuple(names[row] for row in rows) if names else (),
    )


def equal_gallery(ladder: Ladder, seeds: Sequence[int]) -> tuple[int, int]:
    """The largest gallery that every rung has under every seed: classes, images."""
    classes = min(len(split.test_classes) for split in ladder.rungs)
    images = [
        ladder.images(gallery_classes_of(split, classes, seed))
        for split in ladder.rungs
        for seed in seeds
    ]
    known = [count for count in images if count is not None]
    if len(known) < len(images):
        raise UsageError("this ladder does not know how many images its classes have.")
    return classes, min(known)
