"""The starting point of few-shot adaptation: a trained model and what it makes of test samples."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from oodml.features.features import Features
from oodml.runs.spec import RunSpec
from oodml.train.build import Resources, samples_of
from oodml.train.data import Pending
from oodml.train.embed import Embed, Values
from oodml.train.few_shot.support import Indices, Task
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Criterion, Objective, encoded_rows

if TYPE_CHECKING:
    from oodml.splits.split import Split
    from oodml.train.data import Draw, Samples


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
    head is a whole matrix, beyond it moves so many principal directions of the support only.
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
    # Only so many eigenvectors are found, in a third of the time that all of them take.
    most = (max(len(gram) - count, 0), len(gram) - 1)
    found = eigh(gram.cpu().numpy(), subset_by_index=most)
    moments, vectors = (torch.from_numpy(part).to(rows.device) for part in found)
    kept = (moments > moments[-1] * 1e-10).nonzero().flatten().flip(0)
    vectors = vectors[:, kept]
    if len(rows) < rows.shape[1]:
        vectors = doubled.T @ vectors / moments[kept].sqrt()
    directions: Tensor = vectors.float()
    return directions
