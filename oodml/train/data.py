"""Training samples: cached feature vectors, or images decoded and augmented in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from oodml.errors import UsageError
from oodml.seeding import generator
from oodml.train.augmentation import augmented

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.preprocessing import Preprocessing

Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.float32]

# The smallest share of an image's area that a crop keeps in published training (arXiv:2107.09562);
# the reality check takes 0.16 (arXiv:2003.08505).
CROP_SCALE = 0.08


@dataclass(frozen=True)
class Draw:
    """What the augmentation of a batch is drawn from, whoever computes it.

    Sample j of the batch draws from `generator(seed, "augment", step, view, first + j)`. `view`
    counts the augmented versions of one batch; `first` is the place in the whole batch of the
    first sample of this part of it.
    """

    seed: int
    step: int
    view: int = 0
    first: int = 0

    def random(self, position: int) -> np.random.Generator:
        """The generator of the sample at `position` of this part of the batch."""
        return generator(self.seed, "augment", self.step, self.view, self.first + position)

    def versions(self, count: int, among: int) -> Indices:
        """One of `among` cached versions for each of `count` samples of this part of the batch.

        Every sample's versions are put in an order of its own, which the views of a batch take one
        after the other: they never meet the same version of a sample before all are used up.
        """
        end = self.first + count
        keys = generator(self.seed, "versions", self.step).random((end, among))[self.first :]
        versions: Indices = np.argsort(keys, axis=1)[:, self.view % among]
        return versions


@dataclass(frozen=True, eq=False)
class Pending:
    """A batch of inputs (B, ...) that threads still write."""

    inputs: Tensor
    parts: tuple[Future[None], ...] = ()

    def result(self) -> Tensor:
        """The inputs once they are whole; raises what a thread raised, such as `DataError`."""
        for part in self.parts:
            part.result()
        return self.inputs

    def cancel(self) -> None:
        """Drop what no thread has begun."""
        for part in self.parts:
            part.cancel()


class Samples(Protocol):
    """What the loop and the evaluation read: `labels` (n,) and inputs by position."""

    labels: Tensor

    def training(self, index: Indices, draw: Draw) -> Tensor:
        """Inputs (B, ...) as training sees them, augmented by `draw` if they are images."""

    def begin(self, index: Indices, draw: Draw) -> Pending:
        """The same, under way in the background."""

    def evaluation(self, index: Indices, *, flip: bool = False) -> Tensor:
        """Inputs (B, ...) as retrieval sees them; images mirrored left to right with `flip`."""


@dataclass(frozen=True, eq=False)
class CachedViews:
    """Augmented versions of samples: `values` (V, N, C) and the `rows` (n,) of N that are meant.

    Nothing is read before `of` asks for it, so that `values` may be a file mapped into memory.
    """

    values: npt.NDArray[np.float32]
    rows: Indices

    def of(self, index: Indices, draw: Draw) -> Tensor:
        """The features (B, C) of one version of each of the samples `index`."""
        versions = draw.versions(len(index), len(self.values))
        return torch.from_numpy(np.asarray(self.values[versions, self.rows[index]]))


class FeatureSamples:
    """Rows of a feature matrix (n, C); training and evaluation see the same.

    With `views`, training sees one of the cached versions of each sample in their place. Raises
    `UsageError` where a batch asks for more different views of a sample than there are.
    """

    def __init__(
        self,
        values: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        views: CachedViews | None = None,
    ) -> None:
        self.values = torch.from_numpy(np.ascontiguousarray(values))
        self.labels = torch.from_numpy(labels)
        self.views = views

    def training(self, index: Indices, draw: Draw) -> Tensor:
        versions = 1 if self.views is None else len(self.views.values)
        if draw.view >= versions:
            raise UsageError(
                f"a method that compares {draw.view + 1} augmented views of every image needs as "
                f"many cached ones, not {versions}: give --cached-views 4, or --train all."
            )
        return self.evaluation(index) if self.views is None else self.views.of(index, draw)

    def begin(self, index: Indices, draw: Draw) -> Pending:
        return Pending(self.training(index, draw))

    def evaluation(self, index: Indices, *, flip: bool = False) -> Tensor:
        if flip:
            raise UsageError("flip evaluation needs images: cached features have no mirror image.")
        return self.values[torch.from_numpy(index)]


class ImageSamples:
    """Images of a dataset; training takes a random resized crop and a random flip of each.

    Evaluation sees exactly what feature extraction sees. `crop_scale` is the smallest share of the
    area that a crop keeps. Images are decoded in `threads` threads (None: one a core), on which
    no value depends.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Indices,
        labels: npt.NDArray[np.int64],
        preprocessing: Preprocessing,
        *,
        crop_scale: float = CROP_SCALE,
        threads: int | None = None,
    ) -> None:
        if not 0 < crop_scale <= 1:
            raise UsageError(f"--crop-scale {crop_scale} is no share of an area: give 0.08 to 1.")
        self.dataset = dataset
        self.rows = rows
        self.labels = torch.from_numpy(labels)
        self.preprocessing = preprocessing
        self.crop_scale = crop_scale
        self.threads = threads

    def training(self, index: Indices, draw: Draw) -> Tensor:
        return self.begin(index, draw).result()

    def begin(self, index: Indices, draw: Draw) -> Pending:
        def prepare(position: int) -> Pixels:
            crop = augmented(
                self.dataset.paths[self.rows[index[position]]],
                draw.random(position),
                size=self.preprocessing.size,
                scale=self.crop_scale,
                resample=self.preprocessing.resampling,
            )
            return self.preprocessing.normalized(crop)

        return self._begin(len(index), prepare)

    def evaluation(self, index: Indices, *, flip: bool = False) -> Tensor:
        def prepare(position: int) -> Pixels:
            image = self.dataset[int(self.rows[index[position]])][0]
            return self.preprocessing(image).numpy()

        inputs = self._begin(len(index), prepare).result()
        return inputs.flip(-1) if flip else inputs

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
    """The training inputs of every request in order, up to `depth` batches ahead of the reader.

    Reads `requests` ahead too, so they must not depend on what the reader does with a batch: ask
    for one epoch at a time. The rows of a request are (B,) int64, its inputs (B, d) or
    (B, 3, h, w).
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
