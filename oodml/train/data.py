"""Training samples: cached feature vectors, or images that are decoded and augmented in threads.

Samples hold only the rows that they are built from: those of a model's fitting classes for
training, those of the measured classes for evaluation.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, JpegImagePlugin
from torch import Tensor

from oodml.data.dataset import chosen
from oodml.data.image import open_image, read_image
from oodml.errors import DataError, UsageError
from oodml.features.preprocessing import Preprocessing
from oodml.seeding import generator

if TYPE_CHECKING:
    from oodml.features.backbones.registry import Backbone

Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]

# The smallest share of an image's area that a crop keeps in published training (arXiv:2107.09562);
# the reality check takes 0.16 (arXiv:2003.08505).
CROP_SCALE = 0.08
# Aspect ratios and number of tries of torchvision's RandomResizedCrop (arXiv:1409.4842).
RATIOS = (3 / 4, 4 / 3)
TRIES = 10
# JPEG is decoded at a half, a quarter or an eighth where the crop keeps this many times the pixels
# needed, along each side: then resampling hides the difference (Pillow's `reducing_gap`).
SPARE = 2.0
_ORIENTATION = 0x0112

log = logging.getLogger("oodml")


@dataclass(frozen=True)
class Draw:
    """The random draws of a batch's augmentation, the same in any thread or process.

    Sample j of the batch draws from `generator(seed, "augment", step, view, first + j)`. `view`
    numbers the augmented versions of one batch; `first` is the position in the whole batch of the
    first sample of this process's share.
    """

    seed: int
    step: int
    view: int = 0
    first: int = 0

    def random(self, position: int) -> np.random.Generator:
        """The generator of the sample at `position` of this share of the batch."""
        return generator(self.seed, "augment", self.step, self.view, self.first + position)

    def versions(self, count: int, among: int) -> Indices:
        """One of `among` cached versions for each of `count` samples of this share of the batch.

        The views of a batch go through a random order of each sample's versions, so that no version
        is repeated before all are used.
        """
        end = self.first + count
        keys = generator(self.seed, "versions", self.step).random((end, among))[self.first :]
        versions: Indices = np.argsort(keys, axis=1)[:, self.view % among]
        return versions


@dataclass(frozen=True, eq=False)
class Pending:
    """A batch of inputs (B, ...) that threads are still writing."""

    inputs: Tensor
    parts: tuple[Future[None], ...] = ()

    def result(self) -> Tensor:
        """The finished inputs; raises what a thread raised, such as `DataError`."""
        for part in self.parts:
            part.result()
        return self.inputs

    def cancel(self) -> None:
        """Drop the tasks that no thread has started."""
        for part in self.parts:
            part.cancel()


class Samples(Protocol):
    """Labelled inputs by position: n inputs and their `labels` (n,) int64.

    Raises `IndexError` for a position of n or more.
    """

    labels: Tensor

    def training(self, index: Indices, draw: Draw) -> Tensor:
        """Inputs (B, ...) as training sees them, augmented by `draw` if they are images."""

    def begin(self, index: Indices, draw: Draw) -> Pending:
        """The same, computed in the background."""

    def evaluation(self, index: Indices, *, flip: bool = False) -> Tensor:
        """Inputs (B, ...) as retrieval sees them; images mirrored left to right with `flip`."""

    def take(self, rows: Indices) -> Samples:
        """The samples at these positions, in that order, and no others."""


class FeatureSamples:
    """Rows of a feature matrix (n, C), the same for training and evaluation.

    With `views` (V, n, C), the features of V augmented versions of every sample, training uses one
    of these versions in place of the sample. Raises `UsageError` where a batch asks for more
    different views of a sample than there are.
    """

    def __init__(
        self,
        values: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        views: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.values = torch.from_numpy(np.ascontiguousarray(values))
        self.labels = torch.from_numpy(labels)
        self.views = views

    def training(self, index: Indices, draw: Draw) -> Tensor:
        versions = 1 if self.views is None else len(self.views)
        if draw.view >= versions:
            raise UsageError(
                f"a method that compares {draw.view + 1} augmented views of every image needs as "
                f"many cached ones, not {versions}: give cached_views=4, or train='all'."
            )
        if self.views is None:
            return self.evaluation(index)
        return torch.from_numpy(self.views[draw.versions(len(index), versions), index])

    def begin(self, index: Indices, draw: Draw) -> Pending:
        return Pending(self.training(index, draw))

    def evaluation(self, index: Indices, *, flip: bool = False) -> Tensor:
        if flip:
            raise UsageError("flip evaluation needs images: cached features have no mirror image.")
        return self.values[torch.from_numpy(index)]

    def take(self, rows: Indices) -> FeatureSamples:
        views = None if self.views is None else self.views[:, rows]
        return FeatureSamples(self.values.numpy()[rows], self.labels.numpy()[rows], views)


class ImageSamples:
    """Images in files; training takes a random resized crop and a random flip of each.

    Evaluation uses the same transform as feature extraction. `crop_scale` is the smallest share of
    the area that a crop keeps. Images are decoded in `threads` threads (None: one per core), which
    does not affect any value.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: npt.NDArray[np.int64],
        preprocessing: Preprocessing,
        *,
        crop_scale: float = CROP_SCALE,
        threads: int | None = None,
    ) -> None:
        if not 0 < crop_scale <= 1:
            raise UsageError(
                f"crop_scale={crop_scale}: give a share of the area, above 0 and up to 1."
            )
        self.paths = paths
        self.labels = torch.from_numpy(labels)
        self.preprocessing = preprocessing
        self.crop_scale = crop_scale
        self.threads = threads

    def training(self, index: Indices, draw: Draw) -> Tensor:
        return self.begin(index, draw).result()

    def begin(self, index: Indices, draw: Draw) -> Pending:
        def prepare(position: int) -> Pixels:
            crop = augmented(
                self.paths[index[position]],
                draw.random(position),
                size=self.preprocessing.size,
                scale=self.crop_scale,
                resample=self.preprocessing.resampling,
            )
            return self.preprocessing.normalized(crop)

        return self._begin(len(index), prepare)

    def evaluation(self, index: Indices, *, flip: bool = False) -> Tensor:
        def prepare(position: int) -> Pixels:
            return self.preprocessing(read_image(self.paths[index[position]])).numpy()

        inputs = self._begin(len(index), prepare).result()
        return inputs.flip(-1) if flip else inputs

    def take(self, rows: Indices) -> ImageSamples:
        return ImageSamples(
            chosen(self.paths, rows),
            self.labels.numpy()[rows],
            self.preprocessing,
            crop_scale=self.crop_scale,
            threads=self.threads,
        )

    def _begin(self, count: int, prepare: Callable[[int], Pixels]) -> Pending:
        inputs = torch.empty(count, 3, self.preprocessing.size, self.preprocessing.size)
        rows = inputs.numpy()

        def write(position: int) -> None:
            rows[position] = prepare(position)

        return Pending(inputs, tuple(self._pool.submit(write, at) for at in range(count)))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """One pool for the whole run: starting threads for every batch costs more than a batch."""
        return ThreadPoolExecutor(self.threads or len(os.sched_getaffinity(0)))


def prefetched(
    requests: Iterable[tuple[Indices, Draw]], samples: Samples, depth: int = 2
) -> Iterator[Tensor]:
    """The training inputs of every request in order, computed up to `depth` batches ahead.

    `requests` is consumed ahead too, so it must not depend on what is done with a batch: ask for
    one epoch at a time. The rows of a request are (B,) int64, its inputs (B, d) or (B, 3, h, w).
    """
    waiting: deque[Pending] = deque()
    try:
        for index, draw in requests:
            waiting.append(samples.begin(index, draw))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for pending in waiting:
            pending.cancel()


def training_transform(backbone: Backbone) -> Preprocessing:
    """The backbone's input transform, whose crop training replaces by a random one.

    Raises `DataError` for a transform that is not oodml's own.
    """
    if not isinstance(backbone.transform, Preprocessing):
        raise DataError(
            f"the input transform of {backbone.name} is not oodml's: it cannot be augmented."
        )
    return backbone.transform


def augmented(
    path: Path,
    random: np.random.Generator,
    *,
    size: int,
    scale: float,
    resample: Image.Resampling,
) -> Image.Image:
    """The image in `path`, cropped at random, `size` x `size` pixels, mirrored half of the time.

    Raises `DataError` naming the file where it cannot be read.
    """
    image, box = _decoded(path, random, size, scale)
    crop = image.resize((size, size), resample, box=box, reducing_gap=SPARE)
    mirrored = random.integers(2) == 1
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop


def random_crop(random: np.random.Generator, width: int, height: int, scale: float) -> Box:
    """A box (left, top, right, bottom) in whole pixels of a random area, shape and place.

    The area is uniform between `scale` and 1 of the image's, the aspect ratio log-uniform between
    3/4 and 4/3. After ten boxes that do not fit, the largest centred one of an allowed ratio.
    """
    low, high = np.log(RATIOS)
    for _ in range(TRIES):
        area = width * height * random.uniform(scale, 1.0)
        ratio = math.exp(random.uniform(low, high))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left = int(random.integers(width - across + 1))
            top = int(random.integers(height - down + 1))
            return left, top, left + across, top + down
    return _central(width, height)


def _decoded(
    path: Path, random: np.random.Generator, size: int, scale: float
) -> tuple[Image.Image, Box]:
    """RGB pixels and the crop's box in them; JPEG decoded no larger than the crop needs."""
    try:
        with open_image(path) as file:
            if isinstance(file, JpegImagePlugin.JpegImageFile) and _upright(file):
                return _at_least(file, random_crop(random, *file.size, scale), SPARE * size)
    except Exception as error:  # read_image below reports whatever is wrong in one line
        log.debug("%s is read without shortcuts: %s", path, error)
    image = read_image(path)
    return image, random_crop(random, *image.size, scale)


def _upright(image: Image.Image) -> bool:
    return image.mode == "RGB" and image.getexif().get(_ORIENTATION, 1) == 1


def _at_least(image: Image.Image, box: Box, side: float) -> tuple[Image.Image, Box]:
    """The image decoded at a size where each side of the box has `side` pixels or all its own."""
    width, height = image.size
    left, top, right, bottom = box
    wanted = width * side / (right - left), height * side / (bottom - top)
    image.draft(None, (math.ceil(wanted[0]), math.ceil(wanted[1])))
    image.load()
    across, down = image.width / width, image.height / height
    right, bottom = min(right * across, image.width), min(bottom * down, image.height)
    return image, (left * across, top * down, right, bottom)


def _central(width: int, height: int) -> Box:
    ratio = min(max(width / height, RATIOS[0]), RATIOS[1])
    across, down = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down
