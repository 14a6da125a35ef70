"""Cached views: features of augmented images, for training heads with augmentation."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from oodml.features.cache import open_shards
from oodml.features.engine import check_precision, frozen
from oodml.features.extraction import extract_rows
from oodml.features.features import FeatureSource
from oodml.features.preprocessing import Preprocessing
from oodml.seeding import generator
from oodml.train.data import CROP_SCALE, augmented, training_transform

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.backbones.registry import Backbone
    from oodml.runs.spec import RunSpec

Views = npt.NDArray[np.float32]


def views_wanted(specs: Iterable[RunSpec]) -> int:
    """The largest number of cached views that any of the runs asks for, or 0."""
    return max((spec.training.cached_views for spec in specs), default=0)


def cached_views(
    dataset: Dataset,
    backbone: Backbone,
    count: int,
    *,
    precision: str = "fp32",
    batch_size: int | None = None,
    device: str | None = None,
    cache: str | Path | None = None,
    progress: bool = False,
) -> Views:
    """The features (count, n, C) float32 of `count` augmented versions of every image.

    Each version is a random resized crop of at least 8% of the area and a random flip, as in the
    training of whole networks, passed through the frozen backbone. It depends on the sample's name
    and the version's number alone: all runs and seeds use the same versions, and asking for more
    keeps those that exist. They are cached beside the features, in one folder per version; an
    interrupted extraction is resumed. The options are those of `extract_features`. Raises
    `DataError` naming images that do not decode.
    """
    check_precision(precision)
    transform = training_transform(backbone)
    network = lru_cache(partial(frozen, backbone, precision, device, images=len(dataset)))
    values = np.empty((count, len(dataset), backbone.dimension), dtype=np.float32)
    for version in range(count):
        shards = open_shards(
            cache,
            _source(dataset, backbone, precision, version),
            dataset,
            backbone.dimension,
        )
        values[version] = shards.filled(
            partial(
                extract_rows,
                dataset,
                backbone,
                network,
                batch_size=batch_size,
                device=device,
                progress=progress,
                read=partial(_version, dataset, transform, version),
            )
        )
    return values


def _version(dataset: Dataset, transform: Preprocessing, version: int, index: int) -> torch.Tensor:
    crop = augmented(
        dataset.paths[index],
        generator(0, "cached view", dataset.sample_names[index], version),
        size=transform.size,
        scale=CROP_SCALE,
        resample=transform.resampling,
    )
    return torch.from_numpy(transform.normalized(crop))


def _source(dataset: Dataset, backbone: Backbone, precision: str, version: int) -> FeatureSource:
    """What determines a version: the features' own source, plus the random crop."""
    crop = f"view {version}: crop of {CROP_SCALE:g} to 1 of the area, flipped half of the time"
    return FeatureSource(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        backbone=backbone.name,
        weights=backbone.weights,
        preprocessing=f"{crop}; {backbone.preprocessing}",
        precision=precision,
    )
