from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data.collections.conftest import downloaded, lay_out, small

from oodml.data.collections.download import load_collection
from oodml.errors import DataError

HIDDEN = {
    "train": ["train_val2018/Aves/2/a.jpg", "train_val2018/Aves/2/b.jpg",
              "train_val2018/Plantae/7/c.jpg", "train_val2018/Plantae/8/d.jpg"],
    "val": ["train_val2018/Plantae/7/e.jpg", "train_val2018/Plantae/8/f.jpg"],
}  # fmt: skip
NAMES = [{"id": 2, "name": "Corvus corax"}, {"id": 7, "name": "Geum urbanum"},
         {"id": 8, "name": "Geum urbanum"}]  # fmt: skip


def listing(paths: list[str], labels: list[int], **more: Any) -> dict[str, Any]:
    """The lists of the images, numbered from 100, and of what they show."""
    numbers = range(100, 100 + len(paths))
    images = [{"id": i, "file_name": path} for i, path in zip(numbers, paths, strict=True)]
    rows = zip(numbers, labels, strict=True)
    annotations = [{"id": i, "image_id": i, "category_id": label} for i, label in rows]
    return {"images": images, "annotations": annotations[::-1], **more}


def species_2018(names: Any = NAMES) -> list[dict[str, str | bytes | None]]:
    lists = [listing(HIDDEN[name], [int(path.split("/")[2]) for path in HIDDEN[name]])
             for name in ("train", "val")]  # fmt: skip
    return [
        {path: None for paths in HIDDEN.values() for path in paths},
        {"train2018.json": json.dumps(lists[0])},
        {"val2018.json": json.dumps(lists[1])},
        {"categories.json": json.dumps(names)},
    ]


def test_2018_has_the_open_names_and_super_categories(tmp_path: Path) -> None:
    dataset = downloaded(small("inaturalist2018", 3, 6), tmp_path, *species_2018())
    # Two species of one name, as no two in the published list are, stay two.
    assert dataset.class_names == ("Corvus corax", "Geum urbanum (7)", "Geum urbanum (8)")
    assert dataset.groups == ("Aves", "Plantae", "Plantae")
    assert dataset.sample_names[2:4] == (HIDDEN["train"][2], HIDDEN["val"][0])
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["inaturalist2021", "inaturalist2021_mini"])
def test_2021_is_train_or_train_mini_with_val(tmp_path: Path, name: str) -> None:
    train = "train_mini" if name.endswith("mini") else "train"
    worm = "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris"
    crow = "03111_Animalia_Chordata_Aves_Passeriformes_Corvidae_Corvus_corax"
    categories = [
        {"id": 0, "name": "Lumbricus terrestris", "supercategory": "Animalia"},
        {"id": 3111, "name": "Corvus corax", "supercategory": "Birds"},
    ]
    trained = [f"{train}/{worm}/a.jpg", f"{train}/{worm}/b.jpg", f"{train}/{crow}/c.jpg"]
    validated = [f"val/{worm}/d.jpg", f"val/{crow}/e.jpg"]
    packed: list[dict[str, str | bytes | None]] = [
        dict.fromkeys(trained),
        {f"{train}.json": json.dumps(listing(trained, [0, 0, 3111], categories=categories))},
        dict.fromkeys(validated),
        {"val.json": json.dumps(listing(validated, [0, 3111], categories=categories))},
    ]
    dataset = downloaded(small(name, 2, 5), tmp_path, *packed)
    assert dataset.class_names == ("Corvus corax", "Lumbricus terrestris")
    assert dataset.groups == ("Birds", "Animalia")
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1]
    assert dataset.name == name


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("val2018.json", '{"images": [{"id": 1, "file_name": "x"}], "annotations": []}',
         "val2018.json, image 1: no annotation gives it a species"),
        ("val2018.json", '{"images": 3, "annotations": []}', "its 'images' is not a list of obj"),
        ("val2018.json", '{"images": [3], "annotations": [{"image_id": [], "category_id": {}}]}',
         "its 'images' is not a list of objects"),
        ("val2018.json", '{"images": ', "not a readable JSON file"),
        ("categories.json", "[[]]", "its 'categories' is not a list of objects"),
    ],
)  # fmt: skip
def test_damaged_lists_get_one_clear_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    for files in species_2018():
        lay_out(tmp_path, files)
    lay_out(tmp_path, {name: text})
    with pytest.raises(DataError, match=message):
        load_collection(small("inaturalist2018", 3, 6), tmp_path)


def test_a_folder_without_one_of_its_parts_is_not_taken_for_whole(tmp_path: Path) -> None:
    for files in species_2018()[:2]:
        lay_out(tmp_path, files)
    with pytest.raises(DataError, match=r"is not whole: it lacks val2018\.json, categories\.json"):
        load_collection(small("inaturalist2018", 3, 6), tmp_path)
