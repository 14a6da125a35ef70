"""Describable Textures Dataset, read from its own lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oodml.data.collections.pool import Listed, pool, read_rows
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset

# The ten published partitions only move images between these three; each holds all of them.
_LISTS = ("train1.txt", "val1.txt", "test1.txt")


@collection(
    "dtd",
    "Describable Textures: 47 textures, 5,640 photographs",
    classes=47,
    images=5_640,
    archives=(
        Archive(
            "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
            "dtd-r1.0.1.tar.gz",
            # As in torchvision.datasets.DTD.
            checksum="fff73e5086ae6bdbea199a49dfb8a4c1",
        ),
    ),
    folder="dtd",
    landmarks=("images", *(f"labels/{name}" for name in _LISTS)),
    homepage="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    licence="research only",
)
def load_dtd(home: Path) -> Dataset:
    """47 textures; class names read `polka-dotted`. There are no groups."""
    return pool("dtd", home / "images", _listed(home / "labels"))


def _listed(folder: Path) -> Iterator[Listed]:
    for name in _LISTS:
        for (texture, path), place in read_rows(folder / name, _image, form="TEXTURE/IMAGE.jpg"):
            yield Listed(texture, path, place)


def _image(words: list[str]) -> tuple[str, str]:
    (path,) = words
    texture, _ = path.split("/")
    return texture, path
