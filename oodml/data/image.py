"""From a path to an image that is safe to decode: known formats, whole files, bounded memory."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from oodml.data.half_written import is_half_written_webp

# The content decides, not the suffix. Pillow knows 40 formats more: seldom used decoders, and one
# (EPS) that hands the file to another program.
_READERS: dict[bytes, type[ImageFile]] = {
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
# takes at most 1.3 GB, as tests/data/test_hostile_images.py measures.
MOST_PIXELS = 100_000_000
MOST_PIXELS_OF_WEBP = 80_000_000
# A network scales the shorter side to some 256 pixels: 256 x 256,000 of them are 260 MB.
MOST_ELONGATED = 1000
_TAIL = 512
_HALF_WRITTEN = "it ends in zeros, as a half written file does"


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
        if isinstance(image, WebPImageFile) and is_half_written_webp(file):
            raise UnreadableImageError(_HALF_WRITTEN)
        yield image


def _reader(file: IO[bytes]) -> type[ImageFile]:
    head = file.read(64)
    file.seek(0)
    if not head:
        raise UnreadableImageError("the file is empty")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WebPImageFile
    for magic, reader in _READERS.items():
        if head.startswith(magic):
            return reader
    if not head.strip(b"\0"):
        raise UnreadableImageError("it begins with zeros, as a half written file does")
    if head.lstrip().lower().startswith(_TEXT):
        raise UnreadableImageError("not an image file: it holds a web page or XML")
    raise UnidentifiedImageError


def _check_end(image: ImageFile, file: IO[bytes]) -> None:
    """A JPEG whose end was never written decodes to grey without a word; zeros give it away."""
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
