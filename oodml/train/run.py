"""train: one run, from its spec to its record."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from oodml.errors import DataError
from oodml.eval.retrieval import evaluate
from oodml.fid.features import Features, FeatureSource
from oodml.fid.preprocessing import Preprocessing
from oodml.splits.equal import split_features, split_rows
from oodml.splits.gallery import gallery_classes_of, subsample
from oodml.store import RunRecord, RunSpec
from oodml.train.loop import fit, seeded
from oodml.train.model import EmbeddingModel, FrozenBatchNorm, Standardize
from oodml.train.objective import Objective, as_criterion
from oodml.train.registry import get_method
from oodml.train.samples import FeatureSamples, ImageSamples, Samples

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.fid.backbone import Backbone
    from oodml.splits.split import Split

EMBED_BATCH = 256


@dataclass(frozen=True, eq=False)
class Resources:
    """Where this machine finds what specs name: cached features, or images and a backbone.

    Features serve "head" and "none"; `dataset` and `backbone` are needed for "all" only.
    """

    features: Features
    dataset: Dataset | None = None
    backbone: Backbone | None = None
    device: str = "cpu"


def train(spec: RunSpec, split: Split, resources: Resources, directory: str | Path) -> RunRecord:
    """The finished record of one run: trained (or resumed) and measured on the test classes.

    `directory` takes the run's log and checkpoints. The test classes are read once, after the
    last step. The result depends on `spec` only: heads are trained on one thread, whole networks
    on all cores, whatever else runs beside. Raises `DataError` when `resources` are not what the
    spec names.
    """
    _check(spec, split, resources)
    resources = _taking_part(split, resources)
    started = time.monotonic()
    with _threads(1 if spec.train != "all" else torch.get_num_threads()):
        embeddings, figures = _embeddings(spec, split, resources, Path(directory))
        metrics = evaluate(_gallery(spec, split, embeddings), device=resources.device)
    return RunRecord(
        spec=spec,
        shift=split.shift.to_json() if split.shift else {},
        metrics=metrics,
        training=figures,
        environment=environment(resources.device),
        seconds=round(time.monotonic() - started, 3),
    )


def environment(device: str) -> dict[str, str]:
    """Versions and hardware that a result was made with."""
    packages = ("oodml", "torch", "torchvision", "numpy", "pytorch-metric-learning")
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


def _check(spec: RunSpec, split: Split, resources: Resources) -> None:
    source = resources.features.source
    if spec.fingerprint != source.fingerprint:
        raise DataError(
            f"the run is for dataset {spec.dataset!r} with fingerprint {spec.fingerprint}, "
            f"the data given has {source.fingerprint}."
        )
    if spec.split != split.id:
        raise DataError(f"the run is for split {spec.split}, the split given is {split.id}.")


def _embeddings(
    spec: RunSpec, split: Split, resources: Resources, directory: Path
) -> tuple[Features, dict[str, float]]:
    """The embeddings of the test classes, and the figures of the training."""
    test = resources.features.subset(split.test_classes)
    if spec.train == "none":
        return test, {}
    training = _samples(spec, split.train_classes, resources)
    objective = _objective(spec, training, len(split.train_classes), resources)
    figures = fit(objective, training, directory, device=resources.device)
    testing = _samples(spec, split.test_classes, resources)
    values = _embed(objective, testing, resources.device)
    source = FeatureSource(**{**asdict(test.source), "backbone": f"run {spec.id}"})
    names = test.class_names
    return Features(values, testing.labels.numpy(), names, source, test.sample_names), figures


def _taking_part(split: Split, resources: Resources) -> Resources:
    """The resources without the images that a split of equal size leaves out."""
    if not split.images_kept:
        return resources
    rows = np.sort(np.concatenate(split_rows(split, resources.features)))
    images = resources.dataset
    if images is not None:
        images = replace(
            images,
            labels=images.labels[rows],
            sample_names=tuple(images.sample_names[row] for row in rows),
            paths=tuple(images.paths[row] for row in rows),
            sizes=images.sizes[rows],
        )
    return replace(resources, features=split_features(split, resources.features), dataset=images)


def _gallery(spec: RunSpec, split: Split, embeddings: Features) -> Features:
    """The embeddings that are evaluated: all, or as many classes and images as the spec says."""
    if not spec.gallery_classes and not spec.gallery_images:
        return embeddings
    chosen = embeddings.subset(gallery_classes_of(split, spec.gallery_classes, spec.seed))
    rows = subsample(chosen.labels, spec.gallery_images, spec.seed, "gallery", split.id)
    names = chosen.sample_names
    return Features(
        chosen.values[rows],
        chosen.labels[rows],
        chosen.class_names,
        chosen.source,
        tuple(names[row] for row in rows) if names else (),
    )


def _samples(spec: RunSpec, class_names: tuple[str, ...], resources: Resources) -> Samples:
    features = resources.features.subset(class_names)
    if spec.train == "head":
        return FeatureSamples(features.values, features.labels)
    dataset, backbone = _images(resources)
    if not isinstance(backbone.transform, Preprocessing):
        raise DataError(f"the input transform of {backbone.name} has no training counterpart.")
    rows = dataset.of_classes(class_names)
    return ImageSamples(dataset, rows, features.labels, backbone.transform)


def _images(resources: Resources) -> tuple[Dataset, Backbone]:
    if resources.dataset is None or resources.backbone is None:
        raise DataError("training the whole network needs the images and the backbone's weights.")
    return resources.dataset, resources.backbone


def _objective(
    spec: RunSpec, training: Samples, num_classes: int, resources: Resources
) -> Objective:
    with seeded(spec.seed, "init"):
        if isinstance(training, FeatureSamples):
            trunk: torch.nn.Module = Standardize(training.values)
            dimension = training.values.shape[1]
        else:
            backbone = _images(resources)[1]
            # A run must not change the weights that the next one starts from.
            trunk = FrozenBatchNorm(deepcopy(backbone.module))
            dimension = backbone.dimension
        model = EmbeddingModel(trunk, dimension, spec.embedding_dim)
        built = get_method(spec.method).build(
            num_classes, spec.embedding_dim, **spec.hyperparameters
        )
        return Objective(spec, model, as_criterion(built)).to(resources.device)


@torch.no_grad()
def _embed(objective: Objective, samples: Samples, device: str) -> npt.NDArray[np.float32]:
    objective.eval()
    order = np.arange(len(samples.labels))
    parts = [
        objective.embed(samples.evaluation(order[start : start + EMBED_BATCH]).to(device)).cpu()
        for start in range(0, len(order), EMBED_BATCH)
    ]
    values: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return values


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Torch's threads for one run: sums of floats depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
