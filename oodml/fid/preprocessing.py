"""Explicit input transforms: every choice that moves features is a field and stands in the key."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

_BICUBIC = Image.Resampling.BICUBIC
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": _BICUBIC}

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """A PIL RGB image in, a float32 tensor (3, `size`, `size`) out.

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
        pixels = self._resized(image)
        pixels -= np.asarray(self.mean, dtype=np.float32)
        pixels /= np.asarray(self.std, dtype=np.float32)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def at_size(self, size: int) -> Preprocessing:
        """The same transform for another input size, the cropped margin scaled with it."""
        resize = None if self.resize is None else round(self.resize * size / self.size)
        return replace(self, size=size, resize=resize)

    def _resized(self, image: Image.Image) -> Pixels:
        if self.filter == "bicubic_float":
            bands = [band.convert("F").resize((self.size,) * 2, _BICUBIC) for band in image.split()]
            return np.stack([np.asarray(band) for band in bands], axis=2).clip(0, 255)
        if self.antialias:
            return np.array(self._cropped(image), dtype=np.float32)
        pixels = np.asarray(image, dtype=np.float32)
        offset = 0.5 if self.filter == "bilinear" else 0.0
        return sample_bilinear(pixels, self.size, offset)

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


def sample_bilinear(pixels: Pixels, size: int, offset: float) -> Pixels:
    """(h, w, 3) sampled bilinearly at size x size without antialias, as float32.

    `offset` 0.5 takes pixel centres (`torch.nn.functional.interpolate`, `align_corners=False`),
    0 takes corners (TensorFlow 1, torch-fidelity).
    """
    above, below, down = _neighbours(pixels.shape[0], size, offset)
    left, right, across = _neighbours(pixels.shape[1], size, offset)
    rows = pixels[above]
    rows += (pixels[below] - rows) * down[:, None, None]
    columns = rows[:, left]
    columns += (rows[:, right] - columns) * across[None, :, None]
    return columns


def _neighbours(
    length: int, size: int, offset: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Pixels]:
    scale = np.float32(length) / np.float32(size)
    at = (np.arange(size, dtype=np.float32) + np.float32(offset)) * scale - np.float32(offset)
    at = np.maximum(at, np.float32(0))
    low = np.minimum(at.astype(np.int64), length - 1)
    return low, np.minimum(low + 1, length - 1), (at - low).astype(np.float32)


def _numbers(values: tuple[float, float, float]) -> str:
    distinct = values[:1] if len(set(values)) == 1 else values
    return " ".join(f"{value:.6g}" for value in distinct)
