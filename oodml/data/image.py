"""One image file in, one RGB picture out, or one line that says why not."""

from __future__ import annotations

import logging
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from oodml.errors import DataError
from oodml.text import as_text

logger = logging.getLogger("oodml")
# The content decides, not the suffix. Pillow knows 40 formats more: seldom used decoders, and one
# (EPS) that hands the file to another program.
_FORMATS: dict[bytes, type[ImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"GIF8": GifImageFile,
    b"BM": BmpImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
    **{b"P%d" % number: PpmImageFile for number in range(1, 7)},
}
_TEXT = (b"<!doctype", b"<html", b"<?xml", b"<svg")
# Pillow holds 4 bytes a pixel, and while it decodes or rotates up to 12 (WebP: 16). So an image
# takes at most 1.3 GB, as tests/data/test_image_hostile.py measures.
MOST_PIXELS = 100_000_000
MOST_PIXELS_OF_WEBP = 80_000_000
# A network scales the shorter side to some 256 pixels: 256 x 256,000 of them are 260 MB.
MOST_ELONGATED = 1000
_TAIL = 512
_HALF_WRITTEN = "it ends in zeros, as a half written file does"
# Pixels composited at a time, so that transparency does not take four copies of a large image.
_BAND = 4_000_000
_BITS, _PHOTOMETRIC = 258, 262  # TIFF 6.0, section 8
_WHITE_IS_ZERO = 0


def read_image(path: str | Path) -> Image.Image:
    """The picture in `path` as an RGB image, decoded to the last pixel.

    BMP, GIF, JPEG, PNG, PPM, TIFF and WebP are read, whatever the suffix says. A camera's EXIF
    rotation is applied, of an animation or a document the first frame is taken, and other
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
            "skip all such images with skip_broken."
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


class UnreadableImageError(Exception):
    """Why a file is not decoded, as the end of a sentence."""


@contextmanager
def open_image(path: str | Path) -> Iterator[ImageFile]:
    """The image in a file, its header read and nothing decoded, of bounded size.

    A baseline JPEG above `MOST_PIXELS` is set to be decoded at a half, a quarter or an eighth of
    its sides. Raises `UnreadableImageError` for what is too large, half written or no image of a
    format that is read here, and whatever Pillow raises on damaged headers.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - Path costs more than the call
        raise UnreadableImageError("it is no regular file")
    with Path(path).open("rb") as file:
        image = _reader(file)(file, os.fspath(path))
        _check_end(image, file)
        _bound(image, file)
        yield image


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB, 8 bits a channel; the same object if it is that already.

    Transparency is composited on white. Grey of 9 to 16 bits is scaled: its highest byte counts.
    Floats run from 0 (black) to 1 (white). CMYK is (1 - ink)(1 - black). Embedded colour profiles
    are not applied: the numbers in the file are taken for sRGB, as the networks' training did.
    Raises `UnreadableImageError` for floats outside 0 to 1 and for integers of 32 bits.
    """
    if image.mode.startswith("I"):
        return _from_deep_grey(image)
    if image.mode == "F":
        return _from_float(image)
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _picture(image: Image.Image) -> Image.Image:
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged metadata do not make a picture unreadable
        logger.debug("EXIF data are ignored: %s", error)
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


def _reader(file: IO[bytes]) -> type[ImageFile]:
    head = file.read(64)
    file.seek(0)
    if not head:
        raise UnreadableImageError("the file is empty")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WebPImageFile
    for magic, reader in _FORMATS.items():
        if head.startswith(magic):
            return reader
    if not head.strip(b"\0"):
        raise UnreadableImageError("it begins with zeros, as a half written file does")
    if head.lstrip().lower().startswith(_TEXT):
        raise UnreadableImageError("not an image file: it holds a web page or XML")
    raise UnidentifiedImageError


def _check_end(image: ImageFile, file: IO[bytes]) -> None:
    """Refuse a JPEG that ends in zeros: it was never written whole, and decodes to grey."""
    if not isinstance(image, JpegImageFile):
        return
    place = file.tell()
    end = file.seek(0, os.SEEK_END)
    tail = b""
    while end > 0 and not tail:
        start = max(0, end - _TAIL)
        file.seek(start)
        tail = file.read(end - start).rstrip(b"\0")
        zeros = end - start - len(tail)
        end = start
    file.seek(place)
    if zeros > 1 and not tail.endswith(b"\xff\xd9"):
        raise UnreadableImageError(_HALF_WRITTEN)


def _bound(image: ImageFile, file: IO[bytes]) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableImageError(f"it is {width} x {height} pixels large")
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise UnreadableImageError(
            f"it is {width} x {height} pixels large, and read are shapes up to {MOST_ELONGATED}:1"
        )
    most = MOST_PIXELS_OF_WEBP if isinstance(image, WebPImageFile) else MOST_PIXELS
    if width * height > most and isinstance(image, JpegImageFile) and _is_one_scan(image, file):
        scale = next((s for s in (2, 4, 8) if width * height <= most * s * s), 8)
        image.draft(None, (width // scale, height // scale))
    if image.width * image.height > most:
        raise UnreadableImageError(
            f"it is {width} x {height} pixels large, and read are up to {most:,} pixels "
            "(more only in JPEG that is not progressive); make it smaller"
        )


def _is_one_scan(image: JpegImageFile, file: IO[bytes]) -> bool:
    """False if the decoder would hold the coefficients of all scans, at any scale, in memory."""
    # Pillow stops behind the first scan's header: its length, then its number of components.
    place, length = file.tell(), 6 + 2 * image.layers
    file.seek(max(0, place - length))
    header = file.read(3)
    file.seek(place)
    return "progressive" not in image.info and header == struct.pack(">HB", length, image.layers)


def _from_deep_grey(image: Image.Image) -> Image.Image:
    if image.mode == "I" and image.format == "TIFF":
        raise UnreadableImageError(
            "nothing says which number of its 32-bit or signed integers is white; save it in 8 or "
            "16 bits"
        )
    values = np.asarray(image)
    grey = (values >> (_bits(image) - 8)).clip(0, 255).astype(np.uint8)
    if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return _grey(grey)


def _bits(image: Image.Image) -> int:
    given = _tag(image, _BITS)
    return int(given[0]) if given else 16


def _tag(image: Image.Image, number: int) -> Any:
    return getattr(image, "tag_v2", {}).get(number)


def _from_float(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise UnreadableImageError(
            f"its floats run from {low:.4g} to {high:.4g}, and 0 is read as black, 1 as white; "
            "scale them, or save it in 8 or 16 bits"
        )
    return _grey(np.round(values * 255).astype(np.uint8))


def _grey(values: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        layer = _with_alpha(image.crop(box))
        white = Image.new("RGBA", layer.size, "white")
        canvas.paste(Image.alpha_composite(white, layer).convert("RGB"), box)
    return canvas


def _with_alpha(image: Image.Image) -> Image.Image:
    # Pillow undoes premultiplied grey only as grey.
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
