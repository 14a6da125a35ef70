"""Everything the check needs of an image from one decoding, a perceptual hash among it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from oodml.data.dataset import Dataset
from oodml.data.image import decoding_error, open_image, read_image
from oodml.errors import DataError
from oodml.parallel import in_threads
from oodml.progress import progress_bar

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
SIDE = 32
HASH_BITS = 256
# A frequency counts as present from this share of the root mean square of the 256 on. A hash that
# asks for more than the median or than zero flips the bits of symmetric drawings, whose odd
# frequencies are only rounding (measured in docs/checking-data.md).
PRESENT = 0.1
# Grey levels: below this deviation of the small grey picture its frequencies are rounding alone.
FLAT = 1.0
COLOUR_SIDE = 8
# Levels per channel: lossy encoders give a flat colour back a little off.
BLANK_RANGE = 4


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
    looks = in_threads(look_at, dataset.paths, threads=16)
    return list(
        progress_bar(looks, total=len(dataset), desc="check", unit="image", disable=not progress)
    )


def perceptual_hash(image: Image.Image) -> bytes | None:
    """32 bytes that differ in few bits for similar pictures, or None for a flat picture.

    The picture is made grey and 32 x 32 pixels large; of its orthonormal DCT-II the 256 lowest
    frequencies but the constant one, in the order of (row + column, row), give one bit each: 1 if
    the coefficient exceeds a tenth of their root mean square. Colour plays no part; see
    `small_colours`.
    """
    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    levels = np.asarray(grey, np.float64)
    if levels.std() < FLAT:
        return None
    rows, columns = _lowest_frequencies()
    transform = _cosines()
    coefficients = (transform @ levels @ transform.T)[rows, columns]
    threshold = PRESENT * np.sqrt(np.mean(coefficients**2))
    return np.packbits(coefficients > threshold).tobytes()


def small_colours(image: Image.Image) -> bytes:
    """The picture at 8 x 8 pixels, RGB: 192 bytes that tell a red square from a blue one."""
    size = (COLOUR_SIDE, COLOUR_SIDE)
    return image.resize(size, Image.Resampling.BILINEAR).tobytes()


def is_blank(image: Image.Image) -> bool:
    """True if the RGB picture is all one colour, up to the noise of lossy encoding."""
    extrema: Any = image.getextrema()  # of three channels, so three pairs
    return all(high - low <= BLANK_RANGE for low, high in extrema)


def _digest(image: Image.Image) -> bytes:
    size = f"{image.width} {image.height} ".encode()
    return hashlib.sha256(size + image.tobytes()).digest()


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, DataError) else type(error).__name__
    return text.rpartition(": ")[2].rstrip(".")


@cache
def _cosines() -> npt.NDArray[np.float64]:
    """The orthonormal DCT-II as a matrix; row k holds the cosine of frequency k."""
    frequency, place = np.indices((SIDE, SIDE))
    matrix = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * place + 1) * frequency / (2 * SIDE))
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)


@cache
def _lowest_frequencies() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    places = ((row, column) for row in range(SIDE) for column in range(SIDE) if row + column)
    lowest = sorted(places, key=lambda place: (sum(place), place))[:HASH_BITS]
    rows, columns = np.array(lowest, np.int64).T
    return rows, columns
