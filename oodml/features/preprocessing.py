"""Input transforms in which every choice that changes features is a field and part of the key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

_BICUBIC = Image.Resampling.BICUBIC
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": _BICUBIC}

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """A transform from a PIL RGB image to a float32 tensor (3, `size`, `size`).

    `filter` with `antialias`: Pillow's resampling of 8-bit pixels; the shorter side goes to
    `resize` and the centre `size` x `size` is cut out (`resize` None: both sides go straight to
    `size`); "bicubic_float" does it in float, as clean-fid does. Without antialias, in float:
    "bilinear" as torch and pytorch-fid sample, "bilinear_tf1" as TensorFlow 1 and torch-fidelity
    do. Pixels 0..255 then become `(pixel - mean) / std`, channel by channel.
    """

    size: int
    resize: int | None
    filter: str
    antialias: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def text(self) -> str:
        """The canonical text that goes into cache keys and records."""
        resize = f"squash {self.size}" if self.resize is None else f"shorter {self.resize}"
        crop = "" if self.resize is None else f", centre crop {self.size}"
        antialias = "antialias" if self.antialias else "no antialias"
        return (
            f"rgb8 on white, {resize} {self.filter} {antialias}{crop}, "
            f"(x - {_numbers(self.mean)}) / {_numbers(self.std)}"
        )

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(self._scaled(self._resized(image)))

    def normalized(self, image: Image.Image) -> Pixels:
        """(3, height, width) float32 of an RGB image that was resized and cropped already."""
        return self._scaled(_planes(image))

    @property
    def resampling(self) -> Image.Resampling:
        """Pillow's filter nearest to the transform's own, for crops of training images."""
        return _BICUBIC if "bicubic" in self.filter else Image.Resampling.BILINEAR

    def at_size(self, size: int) -> Preprocessing:
        """The same transform for another input size, the cropped margin scaled with it."""
        resize = None if self.resize is None else round(self.resize * size / self.size)
        return replace(self, size=size, resize=resize)

    def _scaled(self, planes: Pixels) -> Pixels:
        # In place and without torch, whose own threads would fight those that decode.
        planes -= np.array(self.mean, dtype=np.float32)[:, None, None]
        planes /= np.array(self.std, dtype=np.float32)[:, None, None]
        return planes

    def _resized(self, image: Image.Image) -> Pixels:
        """(3, size, size) float32 in 0..255."""
        if self.filter == "bicubic_float":
            bands = [band.convert("F").resize((self.size,) * 2, _BICUBIC) for band in image.split()]
            return np.stack([np.asarray(band) for band in bands]).clip(0, 255)
        if self.antialias:
            return _planes(self._cropped(image))
        if self.filter == "bilinear_tf1":
            return _corner_sampled(_planes(image), self.size)
        batch, size = torch.from_numpy(_planes(image))[None], (self.size, self.size)
        planes: Pixels = functional.interpolate(batch, size, mode="bilinear")[0].numpy()
        return planes

    def _cropped(self, image: Image.Image) -> Image.Image:
        resample = FILTERS[self.filter]
        if self.resize is None:
            return image.resize((self.size, self.size), resample)
        # Torchvision's Resize and CenterCrop: the longer side is truncated, the margin rounded.
        shorter, longer = min(image.size), max(image.size)
        longer = int(self.resize * longer / shorter)
        width, height = (
            (self.resize, longer) if image.width <= image.height else (longer, self.resize)
        )
        left, top = round((width - self.size) / 2.0), round((height - self.size) / 2.0)
        return image.resize((width, height), resample).crop(
            (left, top, left + self.size, top + self.size)
        )


def _planes(image: Image.Image) -> Pixels:
    return np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")


def _corner_sampled(planes: Pixels, size: int) -> Pixels:
    """Bilinear as TensorFlow 1 samples it: from the pixels' corners, not from their centres."""
    above, below, down = _neighbours(planes.shape[1], size)
    left, right, across = _neighbours(planes.shape[2], size)
    upper, lower = planes[:, above], planes[:, below]
    rows = upper + (lower - upper) * down[:, None]
    start, end = rows[:, :, left], rows[:, :, right]
    return np.asarray(start + (end - start) * across, dtype=np.float32)


def _neighbours(
    length: int, size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Pixels]:
    at = np.arange(size, dtype=np.float32) * np.float32(length / size)
    low = at.astype(np.int64)
    return low, np.minimum(low + 1, length - 1), (at - low).astype(np.float32)


def times_255(values: Sequence[float]) -> tuple[float, float, float]:
    """Means or deviations of pixels in 0..1, for pixels in 0..255."""
    red, green, blue = (255 * value for value in values)
    return red, green, blue


def _numbers(values: tuple[float, float, float]) -> str:
    distinct = values[:1] if len(set(values)) == 1 else values
    return " ".join(f"{value:.6g}" for value in distinct)
