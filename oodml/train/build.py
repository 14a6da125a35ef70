"""From a spec to samples and an objective: what a run trains on, and what it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from oodml.data.dataset import chosen
from oodml.errors import DataError
from oodml.features.backbones.network import at_size
from oodml.features.features import Features
from oodml.features.preprocessing import Preprocessing
from oodml.runs.spec import RunSpec
from oodml.train.data import FeatureSamples, ImageSamples, Samples
from oodml.train.loop import seeded
from oodml.train.model import EmbeddingModel, Standardize, trunk
from oodml.train.objective import Objective, make_objective
from oodml.train.registry import get_method

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.backbones.registry import Backbone
    from oodml.splits.split import Split


@dataclass(frozen=True, eq=False)
class Resources:
    """Where this machine finds what specs name: cached features, or images and a backbone.

    Features serve "head" and "none"; `dataset` and `backbone` are needed for "all" only. `memory`
    bounds the bytes that retrieval uses. `views` (V, n, C) float32 are the features of V augmented
    versions of every sample (see `cached_views`), for specs that ask for up to V of them.
    Raises `DataError` where they are not one row a sample.
    """

    features: Features
    dataset: Dataset | None = None
    backbone: Backbone | None = None
    device: str = "cpu"
    memory: int = 1 << 30
    views: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.views is not None and self.views.shape[1:2] != (len(self.features),):
            raise DataError(
                f"cached views have shape {self.views.shape}; needed is (versions, "
                f"{len(self.features)}, dimension), a row for each of the features."
            )

    def training_part(self, split: Split) -> Resources:
        """The resources of the training classes; no value of a test class is read."""
        rows = self.features.of_classes(split.train_classes)
        names = self.features.sample_names
        features = replace(
            self.features,
            values=self.features.values[rows],
            labels=self.features.labels[rows],
            sample_names=tuple(names[row] for row in rows) if names else (),
        )
        return self._only(rows, features.subset(split.train_classes))

    def _only(self, rows: npt.NDArray[np.int64], features: Features) -> Resources:
        """Some rows of everything; `features` are these rows, their classes renumbered."""
        images = None if self.dataset is None else self.dataset.take(rows)
        views = None if self.views is None else self.views[:, rows]
        return replace(self, features=features, dataset=images, views=views)

    def images(self) -> tuple[Dataset, Backbone]:
        """The dataset and the backbone; `DataError` where they were not given."""
        if self.dataset is None or self.backbone is None:
            raise DataError(
                "training the whole network needs the images and the backbone's weights."
            )
        return self.dataset, self.backbone


def samples_of(
    spec: RunSpec, class_names: Sequence[str], resources: Resources, *, views: bool = False
) -> Samples:
    """The samples of the named classes, labelled from 0 in sorted order; they hold no other row.

    With `views`, as for training, features come with the cached views that the run asks for.
    """
    features = resources.features.subset(tuple(class_names))
    if spec.model.train != "all":
        rows = resources.features.of_classes(tuple(class_names))
        cached = _views(spec, rows, resources) if views else None
        return FeatureSamples(features.values, features.labels, cached)
    dataset, _ = resources.images()
    transform = backbone_of(spec, resources).transform
    if not isinstance(transform, Preprocessing):
        raise DataError(
            f"the input transform of {spec.model.backbone} has no training counterpart."
        )
    paths = chosen(dataset.paths, dataset.of_classes(tuple(class_names)))
    return ImageSamples(paths, features.labels, transform, crop_scale=spec.training.crop_scale)


def _views(
    spec: RunSpec, rows: npt.NDArray[np.int64], resources: Resources
) -> npt.NDArray[np.float32] | None:
    if not spec.training.cached_views:
        return None
    given = 0 if resources.views is None else len(resources.views)
    if resources.views is None or given < spec.training.cached_views:
        raise DataError(
            f"{spec.label} trains on {spec.training.cached_views} cached views of every image and "
            f"{given} are at hand; they need the images, so give a folder of them, not features."
        )
    return np.ascontiguousarray(resources.views[: spec.training.cached_views, rows])


def backbone_of(spec: RunSpec, resources: Resources) -> Backbone:
    """The backbone at the input size that a run asks for."""
    backbone = resources.images()[1]
    if spec.training.image_size in (0, backbone.image_size):
        return backbone
    return at_size(backbone, spec.training.image_size)


def objective_of(
    spec: RunSpec, training: Samples, num_classes: int, resources: Resources, seed: int
) -> Objective:
    """A new objective over `num_classes` training classes; its first weights follow from `seed`."""
    with seeded(seed, "init"):
        if isinstance(training, FeatureSamples):
            body: torch.nn.Module = Standardize(training.values)
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
