"""A folder of class folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from oodml.data.dataset import Dataset
from oodml.data.samples import Refuse, Sample, dataset_of, first_few, refuse_at_once
from oodml.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

logger = logging.getLogger("oodml")


def load_folder(folder: str | Path, *, refuse: Refuse = refuse_at_once) -> Dataset:
    """The images of a folder whose sub-folders are the classes, at any depth below each class.

    Image files are known by their suffix (`IMAGE_SUFFIXES`, any case); hidden files and folders
    are ignored. A class folder may be a symbolic link; links to folders inside it are not
    followed. Raises `DataError` if the folder is missing or empty, has no class folders, or if a
    class has no image or only one, or a file cannot be read; these are handed to `refuse`.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"no folder at {root}. Give a folder that holds one folder per class.")
    class_folders, stray_images = _top_level(root)
    if not class_folders:
        raise DataError(_no_classes(root, stray_images))
    if stray_images:
        logger.warning("%s: %d images outside the class folders left out", root, stray_images)
    per_class = {each.name: list(_samples(root, each, refuse)) for each in class_folders}
    empty = sorted(name for name, samples in per_class.items() if not samples)
    if empty:
        refuse(
            DataError(
                f"{root}: {len(empty)} of {len(per_class)} class folders hold no image: "
                f"{first_few(empty)}. Images end in {', '.join(sorted(IMAGE_SUFFIXES))}; "
                "fill or remove these folders."
            )
        )
    return dataset_of(
        (sample for each in per_class.values() for sample in each),
        name=root.resolve().name or "root",
        source=str(folder),
        empty_classes=empty,
        refuse=refuse,
    )


def load_images(folder: str | Path) -> Dataset:
    """All images of a folder, at any depth, as one class named `images`.

    For distances between collections without classes. Raises `DataError` if there are fewer than
    two images.
    """
    root = Path(folder)
    samples = [replace(sample, class_name="images") for sample in _samples(root, root)]
    if not samples:
        raise DataError(
            f"{root} holds no image. Images end in {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return dataset_of(samples, name=root.resolve().name or "root", source=str(folder))


def has_class_folders(folder: str | Path) -> bool:
    """True if a folder holds visible folders."""
    return bool(_top_level(Path(folder))[0])


def _top_level(root: Path) -> tuple[list[Path], int]:
    visible = [path for path in root.iterdir() if not path.name.startswith(".")]
    folders = [path for path in visible if path.is_dir()]
    return folders, sum(path.suffix.lower() in IMAGE_SUFFIXES for path in visible) - sum(
        path.suffix.lower() in IMAGE_SUFFIXES for path in folders
    )


def _no_classes(root: Path, stray_images: int) -> str:
    if stray_images:
        return (
            f"{root} holds {stray_images} images but no class folders. Put the images of each "
            "class in a folder of their own, or list them in a CSV with the columns path,label."
        )
    return f"{root} holds no class folders. Give a folder that holds one folder per class."


def _samples(root: Path, class_folder: Path, refuse: Refuse = refuse_at_once) -> Iterator[Sample]:
    for place, folders, files in os.walk(class_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(place, name)
            if name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            size = _size(path, refuse)
            yield Sample(class_folder.name, path.relative_to(root).as_posix(), path, size)


def _size(path: Path, refuse: Refuse) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        refuse(DataError(f"cannot read {path}: {error.strerror}."))
        return 0
