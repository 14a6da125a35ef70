"""A folder of class folders."""

from __future__ import annotations

import logging
import os
from array import array
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from oodml.data.broken import without_broken
from oodml.data.dataset import Dataset
from oodml.data.listing import Listing
from oodml.data.names import as_text
from oodml.data.samples import Refuse, first_few, refuse_at_once
from oodml.data.walk import IMAGE_SUFFIXES, NOWHERE, Oddities, say, walk
from oodml.errors import DataError

logger = logging.getLogger("oodml")


def load_folder(
    folder: str | Path, *, refuse: Refuse = refuse_at_once, progress: bool = False
) -> Dataset:
    """The images of a folder whose sub-folders are the classes, at any depth below each class.

    Image files are known by their suffix (`IMAGE_SUFFIXES`, any case); hidden files and folders
    are ignored. A class folder may be a symbolic link; links to folders inside it are not
    followed. Class and sample names are the folders' and files' as text in Unicode's form NFC, so
    two folders whose names differ in nothing else are one class. Raises `DataError` if the folder
    is missing or empty or has no class folders; refuses classes that have no image or only one,
    class folders that are the same or lie in one another, and folders that cannot be listed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"no folder at {root}. Give a folder that holds one folder per class.")
    oddities: Oddities = defaultdict(list)
    classes, stray_images = _top_level(root, oddities)
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
    with tqdm(desc="list", unit="image", delay=2, disable=not progress) as bar:
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
