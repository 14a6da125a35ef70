"""The image files below one folder, and what else lies there."""

from __future__ import annotations

import logging
import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from oodml.data.names import as_text
from oodml.data.samples import Refuse, first_few
from oodml.errors import DataError

logger = logging.getLogger("oodml")

IMAGE_SUFFIXES = frozenset(
    {".apng", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff",
     ".webp"}
)  # fmt: skip
# Pictures by their name, in formats that are not read here.
_FOREIGN_SUFFIXES = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dng", ".eps", ".heic", ".heif", ".jp2", ".jxl", ".nef",
     ".psd", ".svg", ".tga"}
)  # fmt: skip

NOWHERE = "links lead nowhere"
_NOT_FOLLOWED = "links to folders inside class folders are not followed"
_NO_FILES = "pipes, devices or folders have the suffix of an image and are left out"
_FOREIGN = "files are of formats that are not read here: convert them to JPEG or PNG"

# Kind of oddity -> the places where it was met, as text.
Oddities = defaultdict[str, list[str]]


def walk(root: Path, below: str, oddities: Oddities, refuse: Refuse) -> Iterator[tuple[str, int]]:
    """Place, relative to `root`, and size in bytes of every image file below a folder, any depth.

    Images are known by their suffix, any case; hidden files and folders are ignored and links to
    folders are not followed. A link that leads nowhere is listed with 0 bytes, for it is an image
    that cannot be read. Refuses folders that cannot be listed.
    """
    waiting = [below]
    while waiting:
        place = waiting.pop()
        for entry in _visible(root / place, refuse):
            name = f"{place}/{entry.name}" if place else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
                continue
            size = _size(entry, name, oddities)
            if size is not None:
                yield name, size


def _visible(folder: Path, refuse: Refuse) -> Iterator[os.DirEntry[str]]:
    """The entries one by one: an entry with its status takes ten times the memory of its name."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        place = as_text(str(folder))[:300]
        refuse(DataError(f"cannot list the folder {place}: {error.strerror}."))


def _size(entry: os.DirEntry[str], name: str, oddities: Oddities) -> int | None:
    """The size of an image file, 0 behind a link that leads nowhere, None for what is no image."""
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - ten times as quick
    if suffix not in IMAGE_SUFFIXES:
        if suffix in _FOREIGN_SUFFIXES:
            oddities[_FOREIGN].append(as_text(name))
        elif entry.is_symlink() and os.path.isdir(entry.path):  # noqa: PTH112 - False for a loop
            oddities[_NOT_FOLLOWED].append(as_text(name))
        return None
    try:
        status = entry.stat()
    except OSError:
        oddities[NOWHERE].append(as_text(name))
        return 0
    if not stat.S_ISREG(status.st_mode):
        is_link = entry.is_symlink() and stat.S_ISDIR(status.st_mode)
        oddities[_NOT_FOLLOWED if is_link else _NO_FILES].append(as_text(name))
        return None
    return status.st_size


def say(root: Path, oddities: Oddities) -> None:
    """One warning for each kind of oddity, with its number and the first few."""
    for kind, places in oddities.items():
        logger.warning("%s: %d %s: %s", root, len(places), kind, first_few(sorted(places)))
