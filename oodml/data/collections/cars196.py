"""Stanford Cars, read from any of the three layouts in which it is passed on."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from oodml.data.collections.matlab import read_mat
from oodml.data.collections.pool import Listed, pool, read_text
from oodml.data.collections.registry import Archive, collection
from oodml.data.dataset import Dataset
from oodml.errors import DataError

_TWO_WORDS = ("AM General", "Aston Martin", "Land Rover")


@collection(
    "cars196",
    "Stanford Cars: 196 models, 16,185 photographs",
    classes=196,
    images=16_185,
    archives=(
        Archive(
            # As in pytorch_metric_learning.datasets.cars196; no checksum is published.
            "https://www.kaggle.com/api/v1/datasets/download/jutrera/"
            "stanford-car-dataset-by-classes-folder",
            "stanford-car-dataset-by-classes-folder.zip",
            into="stanford_cars",
        ),
    ),
    folder="stanford_cars",
    groups="the 49 makers",
    homepage="http://ai.stanford.edu/~jkrause/cars/car_dataset.html (gone)",
    licence="non-commercial research",
)
def load_cars196(home: Path) -> Dataset:
    """196 models; class names read `Aston Martin Virage Coupe 2012`, groups `Aston Martin`.

    Three layouts are known: `cars_annos.mat` with `car_ims/`, as its home gave it at last;
    `devkit/` with `cars_train/`, `cars_test/` and `cars_test_annos_withlabels.mat`, as torchvision
    wants it; `names.csv`, `anno_train.csv` and `anno_test.csv` with `car_data/`, as Kaggle and
    pytorch-metric-learning have it. Sample names, and so the fingerprint, differ between them.
    """
    for landmark, read in _LAYOUTS.items():
        if (home / landmark).is_file():
            listed = list(read(home))
            groups = {each.class_name: maker_of(each.class_name) for each in listed}
            return pool("cars196", home, listed, groups=groups)
    raise DataError(f"there is no cars196 at {home}: it would hold {', '.join(_LAYOUTS)}.")


def maker_of(class_name: str) -> str:
    """A car's maker: the first word of its name; two for AM General, Aston Martin, Land Rover."""
    for maker in _TWO_WORDS:
        if class_name.startswith(f"{maker} "):
            return maker
    return class_name.strip().partition(" ")[0]


def _from_home(home: Path) -> Iterator[Listed]:
    path = home / "cars_annos.mat"
    yield from _annotated(home, path, _class_names(path), "relative_im_path")


def _from_devkit(home: Path) -> Iterator[Listed]:
    names = _class_names(home / _DEVKIT)
    train, test = home / "devkit/cars_train_annos.mat", home / "cars_test_annos_withlabels.mat"
    yield from _annotated(home, train, names, "fname", "cars_train/")
    yield from _annotated(home, test, names, "fname", "cars_test/")


def _annotated(
    home: Path, path: Path, names: list[str], field: str, prefix: str = ""
) -> Iterator[Listed]:
    rows = read_mat(path, "annotations", lambda row: (row["class"], str(row[field])))
    for number, (label, name) in enumerate(rows, start=1):
        place = f"{path.name}, image {number}"
        yield Listed(_name(names, label, home, place), prefix + name, place)


def _class_names(path: Path) -> list[str]:
    return read_mat(path, "class_names", str)


def _from_kaggle(home: Path) -> Iterator[Listed]:
    names = [line.strip() for line in read_text(home / "names.csv").splitlines() if line.strip()]
    for split in ("train", "test"):
        text = read_text(home / f"anno_{split}.csv")
        for number, row in enumerate(csv.reader(text.splitlines()), start=1):
            place = f"anno_{split}.csv, line {number}"
            name = _name(names, row[-1] if row else "", home, place)
            folder = name.replace("/", "-")
            yield Listed(name, f"car_data/car_data/{split}/{folder}/{row[0]}", place)


_DEVKIT = "devkit/cars_meta.mat"
_LAYOUTS: dict[str, Callable[[Path], Iterator[Listed]]] = {
    "cars_annos.mat": _from_home,
    _DEVKIT: _from_devkit,
    "names.csv": _from_kaggle,
}


def _name(names: list[str], number: Any, home: Path, place: str) -> str:
    try:
        return names[range(1, len(names) + 1).index(int(number))]
    except (ValueError, TypeError):
        raise DataError(
            f"{home}: {place}: {str(number)[:40]!r} is no class from 1 to {len(names)}."
        ) from None
