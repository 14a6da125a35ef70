"""Whether the end of an image file was never written, where decoders do not notice."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import IO

from PIL.WebPImagePlugin import WebPImageFile

# An encoder writes no byte that the picture does without, but what fills its last block.
_MOST_NEEDLESS = 512


def is_half_written_webp(file: IO[bytes]) -> bool:
    """True if the file ends in zeros and the picture does without hundreds of them.

    Pictures that are plain below end in thousands of zeros, all of which their decoding takes in.
    Where the end was never written, zeros stand for less or for more than the rest of the picture
    did. Animations, and noise without loss, whose bytes are a pixel's each, are not told. The place
    in the file changes.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _MOST_NEEDLESS))
    if file.read().strip(b"\0"):
        return False
    file.seek(0)
    return _decodes(_shortened(file.read()))


def _shortened(content: bytes) -> bytes:
    """The file without the last of the picture's bytes; empty if the picture is not its end."""
    for start, size in _chunks(content):
        kind = content[start : start + 4]
        data = content[start + 8 : start + 8 + size]
        if kind in (b"VP8 ", b"VP8L") and start + 8 + size + size % 2 >= len(content):
            kept = data[:-_MOST_NEEDLESS]
            padded = kept + bytes(len(kept) % 2)
            body = content[8:start] + kind + struct.pack("<I", len(kept)) + padded
            return b"RIFF" + struct.pack("<I", len(body)) + body
    return b""


def _chunks(content: bytes) -> Iterator[tuple[int, int]]:
    """Where each chunk of a RIFF file starts, and the size of its data."""
    start = 12
    while start + 8 <= len(content):
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        yield start, size
        start += 8 + size + size % 2


def _decodes(content: bytes) -> bool:
    try:
        WebPImageFile(BytesIO(content)).load()
    except Exception:  # as in images.py: decoders raise anything
        return False
    return True
