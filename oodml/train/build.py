"""The parts of a run, built from its spec: samples, an objective, and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.data.dataset import chosen
from oodml.errors import DataError
from oodml.features.backbones.network import at_size
from oodml.features.features import Features
from oodml.runs.spec import ModelSpec, RunSpec
from oodml.train.data import FeatureSamples, ImageSamples, Samples, training_transform
from oodml.train.loop import seeded
from oodml.train.model import DEFAULT_POOLING, EmbeddingModel, Standardize, pool_of, trunk
from oodml.train.models import is_of
from oodml.train.objective import Objective, encoded_rows, make_objective
from oodml.train.registry import get_method

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.backbones.registry import Backbone
    from oodml.splits.split import Split
    from oodml.train.data import FeatureSamples, Samples


Values = npt.NDArray[np.float32]
Embed = Callable[["Samples"], Values]


@dataclass(frozen=True, eq=False)
class Resources:
    """The data of one model, behind the names in specs: its features, or images and the network.

    Features serve "head" and "none"; `dataset` and `backbone` are needed for "all" only. `memory`
    limits the bytes that retrieval uses. `views` (V, n, C) float32 are the features of V augmented
    versions of every sample (see `cached_views`), for specs that ask for up to V of them. Raises
    `DataError` where they do not have one row per sample.
    """

    features: Features
    dataset: Dataset | None = None
    backbone: Backbone | None = None
    device: str = "cpu"
    memory: int = 1 << 30
    views: Values | None = None

    def __post_init__(self) -> None:
        if self.views is not None and self.views.shape[1:2] != (len(self.features),):
            raise DataError(
                f"cached views have shape {self.views.shape}; give (versions, "
                f"{len(self.features)}, dimension), one row per row of the features."
            )

    def training_part(self, split: Split) -> Resources:
        """The resources of the training classes; no value of a test class is read."""
        rows = self.features.of_classes(split.train_classes)
        return replace(
            self,
            features=self.features.subset(split.train_classes),
            dataset=None if self.dataset is None else self.dataset.take(rows),
            views=None if self.views is None else self.views[:, rows],
        )

    def images(self) -> tuple[Dataset, Backbone]:
        """The dataset and the backbone; `DataError` where they were not given."""
        if self.dataset is None or self.backbone is None:
            raise DataError(
                "training the whole network needs the images and the backbone's weights."
            )
        return self.dataset, self.backbone


def position_of(model: ModelSpec, resources: Sequence[Resources]) -> int:
    """The position of the resources that belong to a model; `DataError` if none do.

    Single ones are taken as they are; `train_run` checks them.
    """
    if len(resources) == 1:
        return 0
    for at, each in enumerate(resources):
        if is_of(model, each.features.source):
            return at
    raise DataError(
        f"the run is for {model.backbone} ({model.weights[:16]}, {model.preprocessing}), which "
        f"none of the {len(resources)} resources given is of."
    )


def samples_of(
    spec: RunSpec, class_names: Sequence[str], resources: Resources, *, views: bool = False
) -> Samples:
    """The samples of the named classes alone, labelled from 0 in sorted order.

    With `views`, as for training, features come with the cached views that the run asks for.
    """
    features = resources.features.subset(tuple(class_names))
    if spec.model.train != "all":
        rows = resources.features.of_classes(tuple(class_names))
        cached = _views(spec, rows, resources) if views else None
        return FeatureSamples(features.values, features.labels, cached)
    dataset, _ = resources.images()
    transform = training_transform(backbone_of(spec, resources))
    paths = chosen(dataset.paths, dataset.of_classes(tuple(class_names)))
    return ImageSamples(paths, features.labels, transform, crop_scale=spec.training.crop_scale)


def backbone_of(spec: RunSpec, resources: Resources) -> Backbone:
    """The backbone at the input size that a run asks for."""
    return _sized(resources.images()[1], spec.training.image_size)


def check_network(specs: Sequence[RunSpec], backbone: Backbone) -> None:
    """Raise `UsageError` if the network takes no input of a size, or no pooling, of these runs."""
    whole = [spec for spec in specs if spec.model.train == "all"]
    for size, pooling in sorted({(s.training.image_size, s.model.pooling) for s in whole}):
        sized = _sized(backbone, size)
        if pooling != DEFAULT_POOLING:
            pool_of(sized, pooling)


def _sized(backbone: Backbone, image_size: int) -> Backbone:
    return at_size(backbone, image_size) if image_size else backbone


def objective_of(
    spec: RunSpec, training: Samples, num_classes: int, resources: Resources, seed: int
) -> Objective:
    """A new objective over `num_classes` training classes; its first weights follow from `seed`."""
    with seeded(seed, "init"):
        if isinstance(training, FeatureSamples):
            body: nn.Module = Standardize(training.values)
            dimension = training.values.shape[1]
        else:
            body, dimension = trunk(
                backbone_of(spec, resources),
                pooling=spec.model.pooling,
                freeze_batchnorm=spec.model.freeze_batchnorm,
            )
        model = EmbeddingModel(body, dimension, spec.model.embedding_dim)
        built = get_method(spec.method.name).build_with(
            num_classes, spec.model.embedding_dim, spec.method.hyperparameters
        )
        return make_objective(built, spec, model).to(resources.device)


def as_they_are(samples: Samples) -> Values:
    """The cached features, unchanged."""
    return cast("FeatureSamples", samples).values.numpy()


def by_module(module: nn.Module) -> Embed:
    """An embedding function that applies a fitted map to cached features."""

    @torch.no_grad()
    def embed(samples: Samples) -> Values:
        values: Values = module(cast("FeatureSamples", samples).values).float().numpy()
        return values

    return embed


def by_objective(objective: Objective, device: str, training: Samples) -> Embed:
    """An embedding function that applies a trained objective, with the spec's `flip` and `mix`.

    With `flip`, the unit embeddings of an image and its mirror image are added. With `mix` = a, the
    embedding is (1 - a) e concatenated with a z / s: z is the head's output, e is z at unit length,
    and s the mean length of z over the training samples. At a = 0 the ranking is that of the
    cosine.
    """
    flip, mix = objective.spec.evaluation.flip, objective.spec.evaluation.mix

    def rows(samples: Samples, function: Callable[[Tensor], Tensor], flip: bool = False) -> Tensor:
        every = np.arange(len(samples.labels))
        return encoded_rows(objective, samples, every, function, device, flip)

    length = float(rows(training, objective.output).norm(dim=1).mean()) if mix else 1.0

    def embed(samples: Samples) -> Values:
        unit = rows(samples, objective.embed)
        if flip:
            unit = functional.normalize(unit + rows(samples, objective.embed, flip=True), dim=1)
        if mix:
            output = rows(samples, objective.output)
            unit = torch.cat([(1 - mix) * unit, mix / length * output], dim=1)
        values: Values = unit.numpy()
        return values

    return embed


def embedded(
    spec: RunSpec, class_names: Sequence[str], embed: Embed, resources: Resources
) -> Features:
    """The embeddings of all samples of the named classes."""
    features = resources.features.subset(tuple(class_names))
    values = embed(samples_of(spec, class_names, resources))
    if spec.model.train == "none":
        return replace(features, values=values)
    source = replace(features.source, backbone=f"run {spec.id}")
    return replace(features, values=values, source=source)


def concatenated(parts: Sequence[Features]) -> Features:
    """The unit embeddings of several models concatenated, divided by the root of their number.

    Its cosines are the mean of the models' cosines; those of a single model do not change.
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


def _views(spec: RunSpec, rows: npt.NDArray[np.int64], resources: Resources) -> Values | None:
    if not spec.training.cached_views:
        return None
    given = 0 if resources.views is None else len(resources.views)
    if resources.views is None or given < spec.training.cached_views:
        raise DataError(
            f"{spec.label} trains on {spec.training.cached_views} cached views of every image and "
            f"was given {given}; views are made from images, so give their folder, not features."
        )
    return np.ascontiguousarray(resources.views[: spec.training.cached_views, rows])
