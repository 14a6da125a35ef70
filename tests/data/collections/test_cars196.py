from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.collections.conftest import downloaded, lay_out, small
from scipy.io import savemat

from oodml.data.collections.download import load_collection
from oodml.data.collections.matlab_lists import maker_of
from oodml.errors import DataError

NAMES = ("AM General Hummer SUV 2000", "Land Rover LR2 SUV 2012", "Ram C/V Cargo Van Minivan 2012")
LABELS = {"train": (1, 2, 3), "test": (1, 2, 2, 3)}
GROUPS = ("AM General", "Land Rover", "Ram")


def mat(**variables: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, variables)
    return file.getvalue()


def cells(names: tuple[str, ...]) -> Any:
    array = np.empty((1, len(names)), object)
    array[0] = names
    return array


def rows(*records: tuple[str, int], field: str = "fname") -> Any:
    boxes = [(39.0, 116.0, 569.0, 375.0, label, name) for name, label in records]
    kinds = [*((f"bbox_{side}", object) for side in ("x1", "y1", "x2", "y2")),
             ("class", object), (field, object)]  # fmt: skip
    return np.array([boxes], kinds) if boxes else np.empty((1, 0), kinds)


def as_its_home_gave_it() -> dict[str, str | bytes | None]:
    labels = (*LABELS["train"], *LABELS["test"])
    paths = [f"car_ims/{number:06d}.jpg" for number in range(1, 8)]
    records = rows(*zip(paths, labels, strict=True), field="relative_im_path")
    annotations = mat(annotations=records, class_names=cells(NAMES))
    return {**dict.fromkeys(paths), "cars_annos.mat": annotations}


def as_torchvision_wants_it() -> dict[str, str | bytes | None]:
    files: dict[str, str | bytes | None] = {"devkit/cars_meta.mat": mat(class_names=cells(NAMES))}
    for split, list_name in (("train", "devkit/cars_train_annos.mat"),
                             ("test", "cars_test_annos_withlabels.mat")):  # fmt: skip
        names = [f"{number:05d}.jpg" for number in range(1, 1 + len(LABELS[split]))]
        files[list_name] = mat(annotations=rows(*zip(names, LABELS[split], strict=True)))
        files |= {f"cars_{split}/{name}": None for name in names}
    return files


def as_kaggle_has_it() -> dict[str, str | bytes | None]:
    files: dict[str, str | bytes | None] = {"names.csv": "\n".join(NAMES) + "\n"}
    for split, labels in LABELS.items():
        text = ""
        for number, label in enumerate(labels, start=1):
            folder = NAMES[label - 1].replace("/", "-")
            files[f"car_data/car_data/{split}/{folder}/{number:05d}.jpg"] = None
            text += f"{number:05d}.jpg,39,116,569,375,{label}\n"
        files[f"anno_{split}.csv"] = text
    return files


def blank_names() -> bytes:
    records = rows(("car_ims/000001.jpg", 1), field="relative_im_path")
    return mat(annotations=records, class_names=cells((" ", " ")))


@pytest.mark.parametrize(
    ("layout", "first"),
    [
        (as_its_home_gave_it, "car_ims/000001.jpg"),
        (as_torchvision_wants_it, "cars_test/00001.jpg"),
        (as_kaggle_has_it, f"car_data/car_data/test/{NAMES[0]}/00001.jpg"),
    ],
)
def test_three_layouts_are_one_pool_of_models_by_maker(
    tmp_path: Path, layout: Any, first: str
) -> None:
    root = lay_out(tmp_path / "stanford_cars", layout())
    dataset = load_collection(small("cars196", 3, 7), tmp_path)
    assert load_collection(small("cars196", 3, 7), root).fingerprint == dataset.fingerprint
    assert dataset.class_names == NAMES
    assert dataset.groups == GROUPS
    assert dataset.sample_names[0] == first
    assert np.bincount(dataset.labels).tolist() == [2, 3, 2]


def test_the_copy_that_is_left_is_downloaded(tmp_path: Path) -> None:
    dataset = downloaded(small("cars196", 3, 7), tmp_path, as_kaggle_has_it())
    assert dataset.class_names == NAMES


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("Aston Martin V8 Vantage Coupe 2012", "Aston Martin"),
        ("Land Rover Range Rover SUV 2012", "Land Rover"),
        ("Mercedes-Benz C-Class Sedan 2012", "Mercedes-Benz"),
        ("smart fortwo Convertible 2012", "smart"),
    ],
)
def test_makers_of_two_words_are_known(name: str, maker: str) -> None:
    assert maker_of(name) == maker


@pytest.mark.parametrize(
    ("layout", "file", "content", "message"),
    [
        (as_kaggle_has_it, "anno_test.csv", "1.jpg,1,1,1,1,4\n", "line 1: '4' is no class from 1"),
        (as_kaggle_has_it, "anno_test.csv", "1.jpg,1,1,1,1,0\n", "'0' is no class from 1 to 3"),
        (as_its_home_gave_it, "cars_annos.mat", blank_names(), "has no name"),
        (as_kaggle_has_it, "anno_test.csv", "\n", "'' is no class"),
        (
            as_its_home_gave_it,
            "cars_annos.mat",
            b"MATLAB 5.0",
            "no readable variable 'class_names'",
        ),
        (
            as_its_home_gave_it,
            "cars_annos.mat",
            mat(annotations=3),
            "no readable variable 'class_names'",
        ),
        (
            as_torchvision_wants_it,
            "devkit/cars_meta.mat",
            mat(names=3),
            "no readable variable 'class_names'",
        ),
        (
            as_torchvision_wants_it,
            "cars_test_annos_withlabels.mat",
            mat(annotations=rows(("1.jpg", -1))),
            "image 1: '-1' is no class",
        ),
    ],
)
def test_damaged_lists_get_one_clear_line(
    tmp_path: Path, layout: Any, file: str, content: Any, message: str
) -> None:
    lay_out(tmp_path, {**layout(), file: content})
    with pytest.raises(DataError, match=message):
        load_collection(small("cars196", 3, 7), tmp_path)


def test_a_layout_without_one_of_its_lists_is_not_whole(tmp_path: Path) -> None:
    lay_out(tmp_path, as_kaggle_has_it())
    (tmp_path / "anno_test.csv").unlink()
    with pytest.raises(DataError, match=r"there is no .*anno_test\.csv\. Type: oodml dataset"):
        load_collection(small("cars196", 3, 7), tmp_path)


def test_an_empty_folder_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no cars196 .* Type: oodml dataset download"):
        load_collection(small("cars196", 3, 7), tmp_path)
