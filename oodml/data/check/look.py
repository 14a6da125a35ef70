"""What one decoding of an image file tells: all that the check needs, in one pass."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from oodml.data.check.perceptual import is_blank, perceptual_hash, small_colours
from oodml.data.dataset import Dataset
from oodml.data.image import open_image
from oodml.data.images import decoding_error, read_image
from oodml.errors import DataError

# What files of these suffixes hold; MPO is a JPEG with further pictures behind the first.
_FORMATS = {
    ".bmp": {"BMP"},
    ".gif": {"GIF"},
    ".jpeg": {"JPEG", "MPO"},
    ".jpg": {"JPEG", "MPO"},
    ".pbm": {"PPM"},
    ".pgm": {"PPM"},
    ".png": {"PNG"},
    ".ppm": {"PPM"},
    ".tif": {"TIFF"},
    ".tiff": {"TIFF"},
    ".webp": {"WEBP"},
}


@dataclass(frozen=True, slots=True)
class Look:
    """An image that decodes: `width` and `height` in pixels, upright, as the networks see it.

    `pixels` is the SHA-256 of the size and the RGB values: equal for pictures that are equal,
    whatever their files' format and metadata. `hash` is None where the picture is too flat for
    one; `mode` and `format` are the file's, in Pillow's words.
    """

    width: int
    height: int
    mode: str
    format: str
    suffix_fits: bool
    blank: bool
    pixels: bytes
    hash: bytes | None
    colours: bytes


def look_at(path: str | Path) -> Look | str:
    """What the image in a file looks like, or why it does not decode."""
    try:
        with open_image(path) as header:
            mode, file_format = header.mode, header.format or ""
        image = read_image(path)
    except Exception as error:  # damaged headers raise anything; the one line is made in one place
        return decoding_error(path) or _reason(error)
    formats = _FORMATS.get(Path(path).suffix.lower())
    return Look(
        *image.size,
        mode=mode,
        format=file_format,
        suffix_fits=formats is None or file_format in formats,
        blank=is_blank(image),
        pixels=_digest(image),
        hash=perceptual_hash(image),
        colours=small_colours(image),
    )


def look_at_all(dataset: Dataset, *, progress: bool = False) -> list[Look | str]:
    """A look at every sample, in the dataset's order; each file is decoded once, in threads."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        looks = pool.map(look_at, dataset.paths)
        return list(
            tqdm(looks, total=len(dataset), desc="check", unit="image", disable=not progress)
        )


def _digest(image: Image.Image) -> bytes:
    size = f"{image.width} {image.height} ".encode()
    return hashlib.sha256(size + image.tobytes()).digest()


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, DataError) else type(error).__name__
    return text.rpartition(": ")[2].rstrip(".")
