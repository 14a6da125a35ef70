"""What adaptation starts from: the support of an episode, its batches, and the trained model."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.runs.spec import RunSpec
from oodml.seeding import derive_seed, generator
from oodml.train.build import Embed, Resources, Values, samples_of
from oodml.train.data import Pending
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Criterion, Objective, encoded_rows

if TYPE_CHECKING:
    from oodml.runs.spec import RunSpec
    from oodml.splits.episodes import Episode
    from oodml.splits.split import Split
    from oodml.train.data import Draw, Samples


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
    """A class-balanced batch: its number of classes, and of samples of each."""

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


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """The test samples of a run as its trained model sees them.

    `rows` are theirs in the data, `features` their embeddings, `samples` what `trained` takes:
    images, or what the trunk makes of them. It is None where nothing is trained by steps.
    """

    spec: RunSpec
    device: str
    rows: Indices
    features: Features
    samples: Samples
    trained: Objective | None

    @classmethod
    def of(
        cls,
        spec: RunSpec,
        split: Split,
        objective: Objective | None,
        embed: Embed,
        resources: Resources,
    ) -> StartingPoint:
        samples = samples_of(spec, split.test_classes, resources)
        embedded = embed(samples)
        rows = resources.features.of_classes(split.test_classes)
        features = replace(resources.features.subset(split.test_classes), values=embedded)
        if objective is None:
            pooled = Pooled(torch.from_numpy(embedded), samples.labels)
            return cls(spec, resources.device, rows, features, pooled, None)
        start = copied(objective)
        start.spec = spec
        if spec.few_shot.adapt == "head" or spec.model.train != "all":
            samples = Pooled.of(start, samples, resources.device)
            start.model.trunk = nn.Identity()
        return cls(spec, resources.device, rows, features, samples, start)

    @property
    def labels(self) -> Indices:
        return self.features.labels

    def part(self, rows: Indices, values: Values) -> Features:
        """Embeddings (q, D) of the test samples `rows`."""
        names = self.features.sample_names
        return replace(
            self.features,
            values=values,
            labels=self.labels[rows],
            sample_names=tuple(names[row] for row in rows) if names else (),
        )

    def model(self, task: Task) -> Objective:
        """A model of its own for one episode; it may see the episode's support."""
        if self.trained is not None:
            return copied(self.trained).to(self.device)
        values = self.samples.evaluation(task.support)
        return identity_objective(self.spec, values).to(self.device)


class Pooled:
    """What a trunk makes of samples (n, C), also of their mirror images where a run asks for it."""

    def __init__(self, values: Tensor, labels: Tensor, mirrored: Tensor | None = None) -> None:
        self.values, self.labels, self.mirrored = values, labels, mirrored

    @classmethod
    def of(cls, objective: Objective, samples: Samples, device: str) -> Pooled:
        """The features of all samples, not augmented."""
        every = np.arange(len(samples.labels))

        def trunk(inputs: Tensor) -> Tensor:
            return objective.model.trunk(inputs).float()  # type: ignore[no-any-return]

        values = encoded_rows(objective, samples, every, trunk, device)
        if not objective.spec.evaluation.flip:
            return cls(values, samples.labels)
        mirrored = encoded_rows(objective, samples, every, trunk, device, flip=True)
        return cls(values, samples.labels, mirrored)

    def training(self, index: Indices, draw: Draw) -> Tensor:
        return self.evaluation(index)

    def begin(self, index: Indices, draw: Draw) -> Pending:
        return Pending(self.evaluation(index))

    def evaluation(self, index: Indices, *, flip: bool = False) -> Tensor:
        values = self.mirrored if flip and self.mirrored is not None else self.values
        return values[torch.from_numpy(index)]

    def take(self, rows: Indices) -> Pooled:
        at = torch.from_numpy(rows)
        mirrored = None if self.mirrored is None else self.mirrored[at]
        return Pooled(self.values[at], self.labels[at], mirrored)


def copied(objective: Objective) -> Objective:
    """A copy that shares nothing with the objective."""
    # What the last step left behind for its diagnostics belongs to a graph and cannot be copied.
    objective.observed = None
    return deepcopy(objective)


class Turned(nn.Module):
    """x + (A - 1) x within the span of `directions` (C, r), x itself across it; A (r, r) is 1.

    So what comes out keeps all C dimensions, and r * r numbers are adapted in place of C * C.
    """

    directions: Tensor

    def __init__(self, directions: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", directions)
        self.weight = nn.Parameter(torch.eye(directions.shape[1]))

    def forward(self, inputs: Tensor) -> Tensor:
        within = inputs @ self.directions
        moved: Tensor = inputs + (within @ self.weight.T - within) @ self.directions.T
        return moved


def identity_objective(spec: RunSpec, support: Tensor) -> Objective:
    """An objective whose embeddings are its inputs at unit length until its head is adapted.

    `support` (n, C) is the support's part of the inputs. Up to `spec.embedding_dim` dimensions the
    head is a whole matrix, above it moves that many principal directions of the support only.
    """
    dimension = support.shape[1]
    model = EmbeddingModel(nn.Identity(), 1, 1)
    if dimension <= spec.model.embedding_dim:
        whole = nn.Linear(dimension, dimension, bias=False)
        nn.init.eye_(whole.weight)
        model.head = whole
    else:
        turned = Turned(principal_directions(support, spec.model.embedding_dim))
        model.head = turned  # type: ignore[assignment]
    model.dimension = model.embedding_dim = dimension
    return Objective(spec, model, Criterion(nn.Identity()))


def principal_directions(rows: Tensor, count: int) -> Tensor:
    """At most `count` orthonormal directions (C, r) of the largest second moment of rows (n, C).

    The mean is not taken away: cosines see it too. Directions without any moment are left out.
    """
    from scipy.linalg import eigh

    doubled = rows.double()
    gram = doubled @ doubled.T if len(rows) < rows.shape[1] else doubled.T @ doubled
    # Only `count` eigenvectors are computed, in a third of the time that all of them take.
    most = (max(len(gram) - count, 0), len(gram) - 1)
    found = eigh(gram.cpu().numpy(), subset_by_index=most)
    moments, vectors = (torch.from_numpy(part).to(rows.device) for part in found)
    kept = (moments > moments[-1] * 1e-10).nonzero().flatten().flip(0)
    vectors = vectors[:, kept]
    if len(rows) < rows.shape[1]:
        vectors = doubled.T @ vectors / moments[kept].sqrt()
    directions: Tensor = vectors.float()
    return directions
