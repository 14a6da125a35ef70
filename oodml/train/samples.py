"""Training samples: cached feature vectors, or images decoded and augmented batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

    from oodml.data.dataset import Dataset
    from oodml.fid.preprocessing import Preprocessing

Indices = npt.NDArray[np.int64]


class Samples(Protocol):
    """What the loop and the evaluation read: `labels` (n,) and inputs by position."""

    labels: Tensor

    def training(self, index: Indices) -> Tensor:
        """Inputs (B, ...) as training sees them, augmented if they are images."""

    def evaluation(self, index: Indices) -> Tensor:
        """Inputs (B, ...) as retrieval sees them."""


class FeatureSamples:
    """Rows of a feature matrix (n, C); training and evaluation see the same."""

    def __init__(self, values: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
        self.values = torch.from_numpy(np.ascontiguousarray(values))
        self.labels = torch.from_numpy(labels)

    def training(self, index: Indices) -> Tensor:
        return self.values[torch.from_numpy(index)]

    evaluation = training


class ImageSamples:
    """Images of a dataset; training takes a random resized crop and a random flip.

    The augmentation draws from torch's generator in the calling thread, so it depends on the
    seed that the loop set and not on the threads that decode.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Indices,
        labels: npt.NDArray[np.int64],
        preprocessing: Preprocessing,
    ) -> None:
        # Torchvision takes seconds to import, and heads on features never need it.
        from torchvision.transforms import v2

        self.dataset = dataset
        self.rows = rows
        self.labels = torch.from_numpy(labels)
        self.preprocessing = preprocessing
        # The published protocol's augmentation (arXiv:2107.09562): the default crop scale.
        self.augment = v2.Compose(
            [v2.RandomResizedCrop(preprocessing.size, antialias=True), v2.RandomHorizontalFlip()]
        )

    def training(self, index: Indices) -> Tensor:
        return self._stack(index, lambda image: self.preprocessing(self.augment(image)))

    def evaluation(self, index: Indices) -> Tensor:
        return self._stack(index, self.preprocessing)

    def _stack(self, index: Indices, prepare: Callable[[Image], Tensor]) -> Tensor:
        with ThreadPoolExecutor() as pool:
            images = list(pool.map(lambda row: self.dataset[row][0], self.rows[index]))
        return torch.stack([prepare(image) for image in images])
