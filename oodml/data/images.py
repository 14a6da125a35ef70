"""One image file in, one RGB picture out, or one line that says why not."""

from __future__ import annotations

import logging
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from oodml.data.image import open_image
from oodml.data.names import as_text
from oodml.data.rgb import to_rgb
from oodml.errors import DataError

logger = logging.getLogger("oodml")


def read_image(path: str | Path) -> Image.Image:
    """The picture in `path` as an RGB image, decoded to the last pixel.

    BMP, GIF, JPEG, PNG, PPM, TIFF and WebP are read, whatever the suffix says. A camera's EXIF
    rotation is carried out, of an animation or a document the first frame is taken, and other
    modes than RGB become RGB as `to_rgb` says. Up to 100 million pixels are decoded; a larger
    baseline JPEG comes at a half, a quarter or an eighth of its sides. Raises `DataError` naming
    the file if it is missing, truncated, too large or not an image.
    """
    try:
        with open_image(path) as image:
            return _picture(image)
    except Exception as error:  # decoders raise anything on hostile bytes, and it is the file's
        raise DataError(
            f"cannot read the image {as_text(str(path))}: {_reason(error)}. Mend or remove it, or "
            "skip all such images with --skip-broken."
        ) from None


def decoding_error(path: str | Path) -> str | None:
    """Why `read_image` refuses the file, or None; JPEG is decoded at an eighth of its size.

    All bytes are still read and entropy-decoded, so truncation is found as `read_image` finds it.
    """
    try:
        with open_image(path) as image:
            image.draft(None, (1, 1))
            _picture(image)
    except Exception as error:  # as in read_image
        return _reason(error)
    return None


def _picture(image: Image.Image) -> Image.Image:
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged metadata do not make a picture unreadable
        logger.debug("EXIF data are left alone: %s", error)
    return to_rgb(image)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image file of a format that is read here"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(as_text(text).split()).rstrip(".") or type(error).__name__
