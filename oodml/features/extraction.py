"""`extract_features`: the images of a dataset through a frozen network, or out of the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch

from oodml.data import broken_images, broken_images_error
from oodml.data.dataset import Dataset
from oodml.device import usable_device
from oodml.errors import DataError, UsageError
from oodml.features.backbones.registry import Backbone, load_backbone
from oodml.features.cache import open_shards
from oodml.features.engine import Embed, Values, check_precision, chunk_size, frozen
from oodml.features.features import Features, FeatureSource, require_distinct
from oodml.parallel import in_threads
from oodml.progress import progress_bar

_MOST_DECODERS = 8


def extract_features(
    dataset: Dataset,
    backbone: str | Backbone = "inception_v3",
    *,
    weights: str | Path | None = None,
    precision: str = "fp32",
    batch_size: int | None = None,
    device: str | None = None,
    cache: str | Path | None = None,
    progress: bool = False,
    image_size: int | None = None,
    resize: str | None = None,
) -> Features:
    """One vector per image of `dataset` from a frozen network, read from the cache where it is.

    `backbone` is a name of `backbone_names()` or a `Backbone`; `weights`, `image_size` and `resize`
    are those of `load_backbone`. `precision` "bf16", or "fp16" on CUDA, is faster where the
    processor computes in it and moves FID by up to 0.5%. `device` None takes CUDA if there is one,
    `batch_size` None what suits the device. `cache` is a directory (default `$OODML_CACHE`, else
    ~/.cache/oodml); an extraction that was killed goes on where it stood. `progress` draws a bar on
    stderr. Raises `DataError` naming the images that do not decode or when all give the same
    features, `WeightsNotFound` when the weights are nowhere.
    """
    check_precision(precision)
    if isinstance(backbone, str):
        backbone = load_backbone(backbone, weights=weights, image_size=image_size, resize=resize)
    elif (weights, image_size, resize) != (None, None, None):
        raise UsageError(
            "weights, image_size and resize go with a backbone's name, not a Backbone."
        )
    source = FeatureSource(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        backbone=backbone.name,
        weights=backbone.weights,
        preprocessing=backbone.preprocessing,
        precision=precision,
        image_size=backbone.image_size,
        resize=resize,
    )
    shards = open_shards(cache, source, dataset, backbone.dimension)
    values = shards.filled(
        partial(
            extract_rows,
            dataset,
            backbone,
            partial(frozen, backbone, precision, device, images=len(dataset)),
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    )
    _check_finite(values, backbone, precision)
    features = Features(
        values, dataset.labels, dataset.class_names, source, dataset.sample_names, dataset.groups
    )
    require_distinct(features)
    return features


def extract_rows(
    dataset: Dataset,
    backbone: Backbone,
    network: Callable[[], Embed],
    spans: Sequence[range],
    *,
    batch_size: int | None = None,
    device: str | None = None,
    progress: bool = False,
    read: Callable[[int], torch.Tensor] | None = None,
) -> Iterator[Values]:
    """The (len(span), d) float32 features of each span of samples, one after the other.

    `network` gives what runs the frozen backbone and is called only when there is work. `read`
    gives the network's input (3, H, W) for a sample index and is called in threads; by default the
    image is decoded and transformed as the backbone asks. While a batch is computed, the next is
    decoded; no more images are held in memory. When an image does not decode, raises
    the `DataError` that counts and names all that do not.
    """
    if not spans:
        return
    batch_size = _batch_size(batch_size, backbone, device)
    embed = network()
    images = in_threads(
        read or (lambda index: backbone.transform(dataset[index][0])),
        chain.from_iterable(spans),
        threads=_MOST_DECODERS,
        ahead=batch_size,
    )
    total = len(dataset)
    done = total - sum(map(len, spans))
    with progress_bar(
        total=total, initial=done, desc=backbone.name, unit="image", disable=not progress
    ) as bar:
        for span in spans:
            rows = []
            for values in embed(_batches(images, len(span), batch_size, dataset)):
                rows.append(values)
                bar.update(len(values))
            yield np.concatenate(rows)


def _check_finite(values: Values, backbone: Backbone, precision: str) -> None:
    if len(values) and not np.isfinite(values).all(axis=1).any():
        advice = "another weights file" + (" or fp32" if precision == "fp16" else "")
        raise DataError(
            f"backbone {backbone.name} gives NaN or infinity for all {len(values)} images in "
            f"{precision}: give {advice}."
        )


def _batch_size(given: int | None, backbone: Backbone, device: str | None) -> int:
    if given is not None:
        if given < 1:
            raise UsageError(f"batch size {given} is too small: give at least 1.")
        return given
    if usable_device(device).type != "cpu":
        return 128
    # The activations of about 16 images of 299 pixels still fit a CPU's caches (fid.md, 5.1).
    fitting = min(64, 16 * 299**2 // backbone.image_size**2)
    return max(fitting, chunk_size(backbone.image_size) * torch.get_num_threads())


def _batches(
    images: Iterator[torch.Tensor], count: int, batch_size: int, dataset: Dataset
) -> Iterator[torch.Tensor]:
    try:
        for at in range(0, count, batch_size):
            batch = [image.numpy() for image in islice(images, min(batch_size, count - at))]
            # Without torch, whose threads spin after every copy on cores that others compute on.
            yield torch.from_numpy(np.stack(batch))
    except DataError:
        broken = broken_images(dataset)
        if not broken:
            raise
        raise broken_images_error(dataset, broken) from None
