"""Embeddings of samples, by whatever a run trained: an objective, a fitted map, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.features.features import Features, FeatureSource
from oodml.runs.spec import RunSpec
from oodml.train.build import Resources, samples_of
from oodml.train.objective import Objective, encoded_rows

if TYPE_CHECKING:
    from oodml.train.data import FeatureSamples, Samples

Values = npt.NDArray[np.float32]
Embed = Callable[["Samples"], Values]


def as_they_are(samples: Samples) -> Values:
    """The cached features themselves."""
    return cast("FeatureSamples", samples).values.numpy()


def by_module(module: nn.Module) -> Embed:
    """What a fitted map makes of cached features."""

    @torch.no_grad()
    def embed(samples: Samples) -> Values:
        values: Values = module(cast("FeatureSamples", samples).values).float().numpy()
        return values

    return embed


def by_objective(objective: Objective, device: str, training: Samples) -> Embed:
    """What an objective makes of samples, with the tricks that its spec asks for.

    With `flip`, unit embeddings of an image and its mirror image are summed. With `mix` = a, the
    embedding is (1 - a) e next to a z / s: e is z at unit length, z the head's output, and s the
    mean length of z over the training samples. At a = 0 the order is that of the cosine.
    """
    spec = objective.spec
    length = _mean_length(objective, device, training) if spec.evaluation.mix else 1.0

    def embed(samples: Samples) -> Values:
        unit = _rows(objective, samples, objective.embed, device)
        if spec.evaluation.flip:
            unit = unit + _rows(objective, samples, objective.embed, device, flip=True)
            unit = functional.normalize(unit, dim=1)
        if spec.evaluation.mix:
            output = _rows(objective, samples, objective.output, device)
            unit = torch.cat(
                [(1 - spec.evaluation.mix) * unit, spec.evaluation.mix / length * output], dim=1
            )
        values: Values = unit.numpy()
        return values

    return embed


def _mean_length(objective: Objective, device: str, training: Samples) -> float:
    return float(_rows(objective, training, objective.output, device).norm(dim=1).mean())


def _rows(
    objective: Objective,
    samples: Samples,
    function: Callable[[Tensor], Tensor],
    device: str,
    flip: bool = False,
) -> Tensor:
    return encoded_rows(objective, samples, np.arange(len(samples.labels)), function, device, flip)


def embedded(
    spec: RunSpec, class_names: Sequence[str], embed: Embed, resources: Resources
) -> Features:
    """The embeddings of all samples of the named classes."""
    features = resources.features.subset(tuple(class_names))
    return with_embeddings(spec, features, embed(samples_of(spec, class_names, resources)))


def with_embeddings(spec: RunSpec, features: Features, values: Values) -> Features:
    """Embeddings (n, D) of a run in the place of the features (n, C) of the same samples."""
    if spec.model.train == "none":
        return replace(features, values=values)
    source = FeatureSource(**{**asdict(features.source), "backbone": f"run {spec.id}"})
    return replace(features, values=values, source=source)


def concatenated(parts: Sequence[Features]) -> Features:
    """The unit embeddings of several models side by side, divided by the root of their number.

    Its cosines are the mean of the models' cosines; a single model's stay as they are.
    """
    if len(parts) == 1:
        return parts[0]
    lengths = [np.linalg.norm(part.values, axis=1, keepdims=True) for part in parts]
    units = [
        part.values / np.where(length > 0, length, 1)
        for part, length in zip(parts, lengths, strict=True)
    ]
    values = np.concatenate(units, axis=1) / np.sqrt(np.float32(len(parts)))
    return replace(parts[0], values=values.astype(np.float32))
