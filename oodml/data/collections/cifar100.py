"""CIFAR-100, read from its binary version, which is not a pickle, into one file per image."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oodml.data.collections.registry import Archive, Listed, collection, pool, read_text
from oodml.data.dataset import Dataset, groups_of
from oodml.errors import DataError
from oodml.files import locked

_PARTS = ("train", "test")
_NAME = re.compile(r"\w+")
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
# Unlike PNG, the same bytes whatever wrote them, so that file sizes and with them the fingerprint
# do not depend on the machine's zlib.
_HEADER = f"P6\n{_SIDE} {_SIDE}\n255\n".encode()

Records = npt.NDArray[np.uint8]


@collection(
    "cifar100",
    "CIFAR-100: 100 kinds of things in 20 superclasses, 60,000 images of 32 x 32 pixels",
    classes=100,
    images=60_000,
    archives=(
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "cifar-100-binary.tar.gz",
            # As the collection's page gives it.
            checksum="03b5dce01913d631647c71ecec9e9cb8",
        ),
    ),
    folder="cifar-100-binary",
    landmarks=("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt"),
    groups="the 20 superclasses",
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="not stated",
)
def load_cifar100(home: Path) -> Dataset:
    """100 classes; class names read `aquarium fish`, groups `fish`.

    The first call writes every image to a file under `images`, which appears there only when all
    are written. Raises `DataError` if a file is cut short, a label has no name, or a class has two
    superclasses.
    """
    fine, coarse = (_class_names(home / f"{level}_label_names.txt") for level in ("fine", "coarse"))
    records = {part: _records(home / f"{part}.bin", len(coarse), len(fine)) for part in _PARTS}
    images = _image_files(home, records, fine)
    listed = (
        Listed(_readable(fine[label]), _name(part, number, fine[label]), f"{part}.bin")
        for part, rows in records.items()
        for number, label in enumerate(rows[:, 1])
    )
    return pool("cifar100", images, listed, groups=_groups(home, records, fine, coarse))


def _class_names(path: Path) -> list[str]:
    names = read_text(path).split()
    # They become names of folders.
    odd = next((name for name in names if not _NAME.fullmatch(name)), None)
    if odd is not None or len(set(names)) < len(names):
        reason = f"{odd!r} is none" if odd else "some stand twice"
        raise DataError(f"{path} is not a list of distinct words: {reason}.")
    return names


def _records(path: Path, coarse: int, fine: int) -> Records:
    """A row per image: coarse label, fine label, 1,024 red, green and blue values each."""
    length = 2 + _PIXELS
    try:
        size = path.stat().st_size
        if size == 0 or size % length:
            raise DataError(
                f"{path} has {size:,} bytes, which is no multiple of {length:,}: it is cut short."
            )
        records: Records = np.memmap(path, np.uint8, "r").reshape(-1, length)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from None
    if records[:, 0].max() >= coarse or records[:, 1].max() >= fine:
        raise DataError(f"{path} holds labels beyond the {coarse} and {fine} that have names.")
    return records


def _name(part: str, number: int, class_name: str) -> str:
    return f"{class_name}/{part}_{number:05d}.ppm"


def _groups(
    home: Path, records: dict[str, Records], fine: list[str], coarse: list[str]
) -> dict[str, str]:
    """From the names of classes to those of superclasses."""
    stated = []
    for part, rows in records.items():
        for superclass, label in np.unique(rows[:, :2], axis=0):
            stated.append((_readable(fine[label]), _readable(coarse[superclass]), f"{part}.bin"))
    return groups_of(home, stated)


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _image_files(home: Path, records: dict[str, Records], fine: list[str]) -> Path:
    """The folder of the images as files; written now if it is not there."""
    images = home / "images"
    if images.is_dir():
        return images
    try:
        with locked(home / ".images.lock"):
            if not images.is_dir():
                _write(home / ".images.unfinished", records, fine).rename(images)
    except OSError as error:
        raise DataError(f"cannot write the images to {images}: {error.strerror}.") from None
    return images


def _write(folder: Path, records: dict[str, Records], fine: list[str]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for class_name in fine:
        (folder / class_name).mkdir(parents=True)
    for part, rows in records.items():
        # From planes of red, green and blue to pixels.
        pixels = rows[:, 2:].reshape(-1, 3, _SIDE * _SIDE).transpose(0, 2, 1)
        for number, (label, image) in enumerate(zip(rows[:, 1], pixels, strict=True)):
            path = folder / _name(part, number, fine[label])
            path.write_bytes(_HEADER + image.tobytes())
    return folder
