"""Collections that list their images in MATLAB files: Stanford Cars and Oxford Flowers."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from oodml.data.collections.registry import Archive, Listed, collection, pool, read_text
from oodml.data.dataset import Dataset
from oodml.errors import DataError

Value = TypeVar("Value")

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
    yield from _annotated(home, path, _car_names(path), "relative_im_path")


def _from_devkit(home: Path) -> Iterator[Listed]:
    names = _car_names(home / _DEVKIT)
    train, test = home / "devkit/cars_train_annos.mat", home / "cars_test_annos_withlabels.mat"
    yield from _annotated(home, train, names, "fname", "cars_train/")
    yield from _annotated(home, test, names, "fname", "cars_test/")


def _annotated(
    home: Path, path: Path, names: list[str], field: str, prefix: str = ""
) -> Iterator[Listed]:
    rows = read_mat(path, "annotations", lambda row: (row["class"], str(row[field])))
    for number, (label, name) in enumerate(rows, start=1):
        place = f"{path.name}, image {number}"
        yield Listed(_car_name(names, label, home, place), prefix + name, place)


def _car_names(path: Path) -> list[str]:
    return read_mat(path, "class_names", str)


def _from_kaggle(home: Path) -> Iterator[Listed]:
    names = [line.strip() for line in read_text(home / "names.csv").splitlines() if line.strip()]
    for split in ("train", "test"):
        text = read_text(home / f"anno_{split}.csv")
        for number, row in enumerate(csv.reader(text.splitlines()), start=1):
            place = f"anno_{split}.csv, line {number}"
            name = _car_name(names, row[-1] if row else "", home, place)
            folder = name.replace("/", "-")
            yield Listed(name, f"car_data/car_data/{split}/{folder}/{row[0]}", place)


_DEVKIT = "devkit/cars_meta.mat"
_LAYOUTS: dict[str, Callable[[Path], Iterator[Listed]]] = {
    "cars_annos.mat": _from_home,
    _DEVKIT: _from_devkit,
    "names.csv": _from_kaggle,
}


def _car_name(names: list[str], number: Any, home: Path, place: str) -> str:
    try:
        return names[range(1, len(names) + 1).index(int(number))]
    except (ValueError, TypeError):
        raise DataError(
            f"{home}: {place}: {str(number)[:40]!r} is no class from 1 to {len(names)}."
        ) from None


_HOME = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
# In the order of the labels 1 to 102. The archive holds numbers only; these are the names of the
# collection's page, in the order and spelling of torchvision.datasets.Flowers102.
FLOWER_NAMES = tuple(
    """
pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger
lily, moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king
protea, spear thistle, yellow iris, globe-flower, purple coneflower, peruvian lily, balloon
flower, giant white arum lily, fire lily, pincushion flower, fritillary, red ginger, grape
hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet william,
carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped
cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil,
sword lily, poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common
dandelion, petunia, wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura,
geranium, orange dahlia, pink-yellow dahlia?, cautleya spicata, japanese anemone, black-eyed
susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris, windflower,
tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory, passion flower,
lotus, toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree
mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove,
bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper,
blackberry lily
""".replace("\n", " ")
    .strip()
    .split(", ")
)


@collection(
    "flowers102",
    "Oxford Flowers 102: 102 kinds of flowers, 8,189 photographs",
    classes=102,
    images=8_189,
    archives=tuple(
        # Checksums as in torchvision.datasets.Flowers102.
        Archive(f"{_HOME}{name}", name, checksum=checksum, into="flowers-102")
        for name, checksum in (
            ("102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
            ("imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
        )
    ),
    folder="flowers-102",
    landmarks=("jpg", "imagelabels.mat"),
    homepage=_HOME,
    licence="not stated",
)
def load_flowers102(home: Path) -> Dataset:
    """102 kinds of flowers; class names read `pink primrose`. There are no groups."""
    labels = _labels(home / "imagelabels.mat")
    listed = (
        Listed(
            FLOWER_NAMES[label - 1], f"image_{number:05d}.jpg", f"imagelabels.mat, entry {number}"
        )
        for number, label in enumerate(labels, start=1)
    )
    return pool("flowers102", home / "jpg", listed)


def _labels(path: Path) -> list[int]:
    """The label of image 1, 2, ...; each from 1 to 102."""
    labels = read_mat(path, "labels", int)
    wrong = next((label for label in labels if not 1 <= label <= len(FLOWER_NAMES)), None)
    if wrong is not None:
        raise DataError(f"{path} holds the label {wrong}; labels are 1 to {len(FLOWER_NAMES)}.")
    return labels


def read_mat(path: Path, variable: str, parse: Callable[[Any], Value]) -> list[Value]:
    """What `parse` makes of each element of a variable, in MATLAB's order, column after column.

    An element is a number, the content of a cell, or a dict of fields; text is a `str`, a single
    number in a cell or field that number. SciPy reads the file in a process of its own, of bounded
    memory and time, because a damaged file can crash its compiled reader. Raises `DataError` if
    the file cannot be read, lacks the variable, or `parse` fails.
    """
    failure = None
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _READ, path, variable, str(_MEMORY)],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        if not done.returncode:
            return [parse(each) for each in json.loads(done.stdout)]
        failure = done.stderr.strip().splitlines()[-1:] or [f"the reader died, {done.returncode}"]
    except (ValueError, TypeError, LookupError, OSError, subprocess.TimeoutExpired) as error:
        failure = str(error).splitlines()[:1]
    raise DataError(f"{path} has no readable variable {variable!r} ({''.join(failure)[:200]}).")


_MEMORY = 4 << 30  # bytes of address space; the largest list of cars is 2 MB
_SECONDS = 120
_READ = """
import json, resource, sys
path, variable, most = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (int(most), int(most)))
import numpy as np
from scipy.io import loadmat

def plain(value):
    if isinstance(value, np.void):
        return {name: plain(value[name]) for name in value.dtype.names}
    if isinstance(value, np.ndarray):
        items = [plain(each) for each in value.ravel(order="F")]
        return items[0] if len(items) == 1 else items
    return value.item() if isinstance(value, np.generic) else value

value = loadmat(path, variable_names=[variable])[variable]
json.dump([plain(each) for each in value.ravel(order="F")], sys.stdout)
"""
