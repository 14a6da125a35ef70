"""One image file in, one RGB picture out, or one line that says why not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from oodml.errors import DataError

# What Pillow's decoders are known to raise on damaged files, besides OSError.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(path: str | Path) -> Image.Image:
    """The picture in `path` as an RGB image, decoded to the last pixel.

    Transparency is composited on white, 16-bit grey is scaled to 8 bits, a camera's EXIF rotation
    is carried out, and of an animation the first frame is taken. Raises `DataError` naming the
    file if it is missing, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            return _on_white(ImageOps.exif_transpose(image))
    except _DECODING_ERRORS as error:
        raise DataError(f"cannot read the image {path}: {_reason(error)}.") from None


def decoding_error(path: str | Path) -> str | None:
    """Why the file does not decode, or None if it does; JPEG is decoded at an eighth of its size.

    All bytes are still read and entropy-decoded, so truncation is found as `read_image` finds it.
    """
    try:
        with Image.open(path) as image:
            image.draft(None, (1, 1))
            image.load()
    except _DECODING_ERRORS as error:
        return _reason(error)
    return None


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__
