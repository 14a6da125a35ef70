"""Collections that list their images in JSON: iNaturalist and Food-101."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from oodml.data.collections.registry import Archive, Listed, collection, pool
from oodml.data.dataset import Dataset
from oodml.errors import DataError
from oodml.files import read_json

Key = int | str | None

_INATURALIST_HOME = "https://github.com/visipedia/inat_comp/tree/master"
_INATURALIST_LICENCE = "iNaturalist's terms; non-commercial research and education"


def _archives(year: int, checksums: Mapping[str, str]) -> tuple[Archive, ...]:
    """Files of the competition's bucket; checksums as its README gives them."""
    bucket = f"https://ml-inat-competition-datasets.s3.amazonaws.com/{year}"
    return tuple(
        Archive(f"{bucket}/{name}.tar.gz", f"{name}.tar.gz", checksum)
        for name, checksum in checksums.items()
    )


@collection(
    "inaturalist2018",
    "iNaturalist 2018: 8,142 species, 461,939 photographs (120 GB)",
    classes=8_142,
    images=461_939,
    archives=_archives(
        2018,
        {
            "train_val2018": "b1c6952ce38f31868cc50ea72d066cc3",
            "train2018.json": "bfa29d89d629cbf04d826a720c0a68b0",
            "val2018.json": "f2ed8bfe3e9901cdefceb4e53cd3775d",
            "categories.json": "",
        },
    ),
    landmarks=("train2018.json", "val2018.json", "categories.json", "train_val2018"),
    groups="the 14 super-categories, such as Aves",
    homepage=f"{_INATURALIST_HOME}/2018",
    licence=_INATURALIST_LICENCE,
)
def load_inaturalist2018(home: Path) -> Dataset:
    """8,142 species, train and val together; class names read `Geum urbanum`, groups `Plantae`.

    `categories.json` has the names that the competition's own lists hide.
    """
    path = home / "categories.json"
    species = _species(_objects(path, _read(path), "categories"))
    groups: dict[str, str] = {}
    return pool("inaturalist2018", home, _hidden(home, species, groups), groups=groups)


def _hidden(home: Path, species: Mapping[Key, str], groups: dict[str, str]) -> Iterator[Listed]:
    for each in _listed(home, ("train2018.json", "val2018.json"), species):
        # train_val2018/Aves/2761/0f9b.jpg
        groups[each.class_name] = each.name.split("/")[1] if each.name.count("/") > 1 else ""
        yield each


def _load_2021(name: str, lists: Sequence[str], home: Path) -> Dataset:
    path = home / lists[0]
    categories = _objects(path, _read(path), "categories")
    species = _species(categories)
    groups = {species[_key(each, "id")]: str(each.get("supercategory")) for each in categories}
    return pool(name, home, _listed(home, lists, species), groups=groups)


collection(
    "inaturalist2021",
    "iNaturalist 2021: 10,000 species, 2,786,843 photographs (232 GB)",
    classes=10_000,
    images=2_786_843,
    archives=_archives(
        2021,
        {
            "train": "e0526d53c7f7b2e3167b2b43bb2690ed",
            "train.json": "38a7bb733f7a09214d44293460ec0021",
            "val": "f6f6e0e242e3d4c9569ba56400938afc",
            "val.json": "4d761e0f6a86cc63e8f7afc91f6a8f0b",
        },
    ),
    landmarks=("train.json", "val.json", "train", "val"),
    groups="the 11 super-categories, such as Birds",
    homepage=f"{_INATURALIST_HOME}/2021",
    licence=_INATURALIST_LICENCE,
)(partial(_load_2021, "inaturalist2021", ("train.json", "val.json")))

collection(
    "inaturalist2021_mini",
    "iNaturalist 2021, the small training set: 10,000 species, 600,000 photographs (50 GB)",
    classes=10_000,
    images=600_000,
    archives=_archives(
        2021,
        {
            "train_mini": "db6ed8330e634445efc8fec83ae81442",
            "train_mini.json": "395a35be3651d86dc3b0d365b8ea5f92",
            "val": "f6f6e0e242e3d4c9569ba56400938afc",
            "val.json": "4d761e0f6a86cc63e8f7afc91f6a8f0b",
        },
    ),
    landmarks=("train_mini.json", "val.json", "train_mini", "val"),
    groups="the 11 super-categories, such as Birds",
    homepage=f"{_INATURALIST_HOME}/2021",
    licence=_INATURALIST_LICENCE,
)(partial(_load_2021, "inaturalist2021_mini", ("train_mini.json", "val.json")))


def _listed(home: Path, lists: Sequence[str], species: Mapping[Key, str]) -> Iterator[Listed]:
    """The images of several lists, each with its species."""
    for name in lists:
        path = home / name
        content = _read(path)
        labels = {
            _key(each, "image_id"): species.get(_key(each, "category_id"))
            for each in _objects(path, content, "annotations")
        }
        for number, image in enumerate(_objects(path, content, "images"), start=1):
            place = f"{name}, image {number}"
            class_name = labels.get(_key(image, "id"))
            if class_name is None:
                raise DataError(f"{home}: {place}: no annotation gives it a species.")
            yield Listed(class_name, str(image.get("file_name", "")), place)


def _species(categories: list[dict[str, Any]]) -> dict[Key, str]:
    """The name of each category's id; with the id where several bear one name."""
    times = Counter(str(each.get("name")) for each in categories)
    return {
        _key(each, "id"): name if times[name] == 1 else f"{name} ({_key(each, 'id')})"
        for each in categories
        for name in [str(each.get("name"))]
    }


def _key(record: Mapping[str, Any], field: str) -> Key:
    value = record.get(field)
    return value if isinstance(value, int | str) else None


def _objects(path: Path, content: Any, key: str) -> list[dict[str, Any]]:
    """The list of JSON objects under `key`, or the whole content where it is a bare list."""
    found = content.get(key) if isinstance(content, dict) else content
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(f"{path} is no iNaturalist list: its {key!r} is not a list of objects.")
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a readable JSON file ({error}).") from None


_FOOD_LISTS = ("meta/train.json", "meta/test.json")


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
    landmarks=(*_FOOD_LISTS, "images"),
    homepage="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    licence="the photographs belong to their authors (Foodspotting); research",
)
def load_food101(home: Path) -> Dataset:
    """101 dishes of 1,000 photographs; class names read `apple pie`. There are no groups."""
    return pool("food101", home, (each for name in _FOOD_LISTS for each in _dishes(home / name)))


def _dishes(path: Path) -> Iterator[Listed]:
    for dish, images in read_json(path, "list of Food-101").items():
        if not isinstance(images, list):
            raise DataError(f"{path}: the images of {dish!r} are no list.")
        for number, image in enumerate(images, start=1):
            place = f"{path.name}, {dish}, image {number}"
            yield Listed(dish.replace("_", " "), f"images/{image}.jpg", place)
