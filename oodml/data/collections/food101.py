"""Food-101, read from its own lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oodml.data.collections.pool import Listed, pool
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset
from oodml.errors import DataError
from oodml.files import read_json

_LISTS = ("meta/train.json", "meta/test.json")


@collection(
    "food101",
    "Food-101: 101 dishes, 101,000 photographs",
    classes=101,
    images=101_000,
    archives=(
        Archive(
            "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            "food-101.tar.gz",
            # As in torchvision.datasets.Food101.
            checksum="85eeb15f3717b99a5da872d97d918f87",
        ),
    ),
    folder="food-101",
    landmarks=(*_LISTS, "images"),
    homepage="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    licence="the photographs belong to their authors (Foodspotting); research",
)
def load_food101(home: Path) -> Dataset:
    """101 dishes of 1,000 photographs; class names read `apple pie`. There are no groups."""
    return pool("food101", home, (each for name in _LISTS for each in _listed(home / name)))


def _listed(path: Path) -> Iterator[Listed]:
    for dish, images in read_json(path, "list of Food-101").items():
        if not isinstance(images, list):
            raise DataError(f"{path}: the images of {dish!r} are no list.")
        for number, image in enumerate(images, start=1):
            place = f"{path.name}, {dish}, image {number}"
            yield Listed(dish.replace("_", " "), f"images/{image}.jpg", place)
