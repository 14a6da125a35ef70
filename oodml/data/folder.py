"""Load a folder of class folders."""

from __future__ import annotations

import logging
import os
import stat
from array import array
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from oodml.data.dataset import Dataset, Refuse, refuse_at_once, without_broken
from oodml.data.listing import Listing
from oodml.errors import DataError
from oodml.progress import progress_bar
from oodml.text import as_text, first_few

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
# What other programs put beside class folders, perhaps with images in it.
_SYSTEM_FOLDERS = frozenset(
    {".AppleDouble", ".Spotlight-V100", ".Trash", ".Trashes", ".cache", ".fseventsd", ".git",
     ".hg", ".idea", ".ipynb_checkpoints", ".svn", ".thumbnails", ".venv", ".vscode"}
)  # fmt: skip
# Kind of oddity -> the places where it was met, as text.
Oddities = defaultdict[str, list[str]]


def load_folder(
    folder: str | Path, *, refuse: Refuse = refuse_at_once, progress: bool = False
) -> Dataset:
    """The images of a folder whose sub-folders are the classes, at any depth below each class.

    Image files are known by their suffix (`IMAGE_SUFFIXES`, any case); hidden files, and hidden
    folders inside a class, are ignored. A class folder may be a symbolic link; links to folders
    inside it are not followed. Class and sample names are the folders' and files' as text in
    Unicode's form NFC, so two folders whose names differ in nothing else are one class. Raises
    `DataError` if the folder is missing or empty or has no class folders; refuses classes that have
    no image or only one, class folders that are the same or lie in one another, hidden folders
    beside them that hold images (those of other programs, such as `.git`, are left out with a
    warning), and folders that cannot be listed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"no folder at {root}. Give a folder that holds one folder per class.")
    oddities: Oddities = defaultdict(list)
    classes, stray_images = _top_level(root, oddities)
    _check_hidden(root, refuse)
    if not classes:
        raise DataError(_no_classes(root, stray_images))
    if stray_images:
        logger.warning("%s: %d images outside the class folders left out", root, stray_images)
    _check_overlap(root, classes, refuse)
    listing = _listing(root, classes, oddities, refuse, progress)
    say(root, oddities)
    _check_empty(root, listing, refuse)
    listing.check_names(str(folder), refuse)
    return listing.dataset(name=_name(root), source=str(folder), refuse=refuse)


def load_images(
    folder: str | Path, *, skip_broken: bool = False, progress: bool = False
) -> Dataset:
    """All images of a folder, at any depth, as one class named `images`.

    For distances between collections without classes. With `skip_broken`, images that do not
    decode are left out. Raises `DataError` if there are fewer than two images.
    """
    root = Path(folder)
    oddities: Oddities = defaultdict(list)
    listing = _listing(root, [""], oddities, refuse_at_once, progress, names=["images"])
    say(root, oddities)
    if not listing.places:
        raise DataError(
            f"{root} holds no image. Images end in {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    listing.check_names(str(folder))
    dataset = listing.dataset(name=_name(root), source=str(folder))
    return without_broken(dataset, progress=progress) if skip_broken else dataset


def has_class_folders(folder: str | Path) -> bool:
    """True if a folder holds visible folders."""
    return bool(_top_level(Path(folder), defaultdict(list))[0])


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


def say(root: Path, oddities: Oddities) -> None:
    """Warn of each kind of oddity, with its count and first few places."""
    for kind, places in oddities.items():
        logger.warning("%s: %d %s: %s", root, len(places), kind, first_few(sorted(places)))


def _name(root: Path) -> str:
    return as_text(root.resolve().name) or "root"


def _top_level(root: Path, oddities: Oddities) -> tuple[list[str], int]:
    """The class folders, sorted, and the number of images beside them."""
    folders = []
    stray_images = 0
    try:
        with os.scandir(root) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot list the folder {root}: {error.strerror}.") from None
    for entry in visible:
        path = Path(entry.path)
        if path.is_dir():
            folders.append(entry.name)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            stray_images += 1
        elif entry.is_symlink() and not path.exists():
            oddities[NOWHERE].append(as_text(entry.name))
    return sorted(folders), stray_images


def _check_hidden(root: Path, refuse: Refuse) -> None:
    """Warn of hidden folders, or refuse those that hold images."""
    with os.scandir(root) as entries:
        hidden = sorted(each.name for each in entries if each.name[0] == "." and each.is_dir())
    classes = [
        name
        for name in hidden
        if name not in _SYSTEM_FOLDERS and any(walk(root, name, defaultdict(list), lambda _: None))
    ]
    if classes:
        refuse(
            DataError(
                f"{root}: {len(classes)} folders with images have names that begin with a dot, "
                f"and hidden folders are no classes: {first_few(list(map(as_text, classes)))}. "
                "Rename them, or move them away."
            )
        )
    others = [as_text(name) for name in hidden if name not in classes]
    if others:
        logger.warning("%s: %d hidden folders left out: %s", root, len(others), first_few(others))


def _no_classes(root: Path, stray_images: int) -> str:
    if stray_images:
        return (
            f"{root} holds {stray_images} images but no class folders. Put the images of each "
            "class in a folder of their own, or list them in a CSV with the columns path,label."
        )
    return f"{root} holds no class folders. Give a folder that holds one folder per class."


def _check_overlap(root: Path, classes: list[str], refuse: Refuse) -> None:
    """Links can put one image into two classes, and then train and test share it."""
    if not any((root / each).is_symlink() for each in classes):
        return
    real = os.path.realpath(root)
    at = {os.path.join(real, each): each for each in classes}  # noqa: PTH118
    places = sorted((Path(os.path.realpath(link)).parts, each) for link, each in at.items())
    around = [each for parts, each in places if parts == Path(real).parts[: len(parts)]]
    if around:
        refuse(
            DataError(
                f"{root}: the class folder {as_text(around[0])!r} links to a folder that holds "
                "the collection itself. Remove the link."
            )
        )
    for (outer, one), (inner, other) in pairwise(places):
        if inner[: len(outer)] == outer and one not in around:
            refuse(
                DataError(
                    f"{root}: by a link, the class folders {as_text(one)!r} and "
                    f"{as_text(other)!r} are the same or one holds the other, so their images "
                    "would be of both classes. Remove the link."
                )
            )


def _listing(
    root: Path,
    folders: list[str],
    oddities: Oddities,
    refuse: Refuse,
    progress: bool,
    names: list[str] | None = None,
) -> Listing:
    labels, sizes = array("q"), array("q")
    places: list[str] = []
    with progress_bar(desc="list", unit="image", delay=2, disable=not progress) as bar:
        for label, each in enumerate(folders):
            for place, size in walk(root, each, oddities, refuse):
                labels.append(label)
                sizes.append(size)
                places.append(place)
            bar.update(len(places) - bar.n)
    return Listing(
        root,
        folders if names is None else names,
        np.array(labels, np.int64),
        list(map(as_text, places)),
        places,
        np.array(sizes, np.int64),
    )


def _check_empty(root: Path, listing: Listing, refuse: Refuse) -> None:
    counts = np.bincount(listing.labels, minlength=len(listing.classes))
    empty = sorted(
        as_text(listing.classes[label]) for label in np.flatnonzero(counts == 0).tolist()
    )
    if empty:
        refuse(
            DataError(
                f"{root}: {len(empty)} of {len(listing.classes)} class folders hold no image: "
                f"{first_few(empty)}. Images end in {', '.join(sorted(IMAGE_SUFFIXES))}; "
                "fill or remove these folders."
            )
        )


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
