"""The support of few-shot episodes: what adaptation may see, and the batches that it sees it in."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError, UsageError
from oodml.seeding import derive_seed, generator

if TYPE_CHECKING:
    from oodml.runs.spec import RunSpec
    from oodml.splits.episodes import Episode

Indices = npt.NDArray[np.int64]
log = logging.getLogger("oodml")


@dataclass(frozen=True, eq=False)
class Task:
    """One episode as positions (int64) among the test samples, and the seed of all its draws.

    `labels` (n,) counts the classes of the support from 0.
    """

    shots: int
    number: int
    seed: int
    support: Indices
    query: Indices
    labels: Indices

    @property
    def classes(self) -> int:
        """How many classes the support has."""
        return int(self.labels.max()) + 1


def task_of(episode: Episode, spec: RunSpec, rows: Indices, labels: Indices) -> Task:
    """The task that an episode sets, where `rows` (ascending) of the data are the test samples.

    `labels` (n,) are theirs. Raises `DataError` for an episode with samples of other classes.
    """
    support, query = (np.searchsorted(rows, part) for part in (episode.support, episode.query))
    for places, part in ((support, episode.support), (query, episode.query)):
        if places.max(initial=0) >= len(rows) or not np.array_equal(rows[places], part):
            raise DataError(
                f"episode {episode.number} of {episode.shots} shots holds samples that are not of "
                f"the test classes of split {spec.data.split}; draw it for this rung."
            )
    seed = derive_seed(spec.seed, "few_shot", spec.data.split, episode.shots, episode.number)
    own = np.unique(labels[support], return_inverse=True)[1].astype(np.int64)
    return Task(episode.shots, episode.number, seed, support, query, own)


class Shape(NamedTuple):
    """A class-balanced batch: so many classes with so many samples each."""

    classes: int
    samples_per_class: int


def batch_shape(task: Task, spec: RunSpec) -> Shape:
    """The run's batches, as far as a support fills them: at least 2 samples of 2 classes.

    A support that fills no whole batch makes smaller ones, which is logged. Raises `DataError`
    where it holds no pair of one class or no pair of two.
    """
    fewest, classes = int(np.bincount(task.labels).min()), task.classes
    if fewest < 2 or classes < 2:
        raise DataError(
            f"few-shot: the support of episode {task.number} has {classes} classes and a class of "
            f"{fewest} samples: adaptation needs pairs, so give 2 shots or more and 2 classes."
        )
    if spec.training.batch_size < 4:
        raise UsageError(f"batch_size={spec.training.batch_size}: few-shot needs at least 4.")
    samples = min(max(spec.training.samples_per_class, 2), fewest, spec.training.batch_size // 2)
    wanted = spec.training.batch_size // samples
    if wanted > classes and task.number == 0:
        log.warning(
            "%s: %d shots: batches of %d in place of %d, for the support has %d classes.",
            spec.label, task.shots, classes * samples, spec.training.batch_size, classes,
        )  # fmt: skip
    return Shape(min(wanted, classes), samples)


def batches_of(task: Task, shape: Shape, steps: int) -> Indices:
    """Positions in the support (steps, batch), class by class, drawn by the task's seed.

    No class comes twice in a batch and no sample twice, so a positive pair is never one image.
    """
    random = generator(task.seed, "batches")
    order = np.argsort(task.labels, kind="stable")
    sizes = np.bincount(task.labels)
    first = np.cumsum(sizes) - sizes
    drawn = _without_repeats(random.random((steps, task.classes)), shape.classes)
    keys = random.random((steps, shape.classes, sizes.max()))
    keys[np.arange(sizes.max()) >= sizes[drawn][:, :, None]] = np.inf
    members = _without_repeats(keys, shape.samples_per_class)
    positions: Indices = order[(first[drawn][:, :, None] + members).reshape(steps, -1)]
    return positions


def _without_repeats(keys: npt.NDArray[np.float64], count: int) -> Indices:
    return np.argsort(keys, axis=-1)[..., :count]
