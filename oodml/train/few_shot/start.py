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
from oodml.train.few_shot.identity_head import identity_objective
from oodml.train.few_shot.support import Indices, Task
from oodml.train.objective import Objective, encoded_rows

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
