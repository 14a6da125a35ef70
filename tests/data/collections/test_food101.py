from __future__ import annotations

import json
from pathlib import Path

import pytest
from data.collections.conftest import downloaded, lay_out, small

from oodml.data.collections.download import load_collection
from oodml.errors import DataError

TRAIN = {"apple_pie": ["apple_pie/1005649", "apple_pie/1011328"], "waffles": ["waffles/1"]}
TEST = {"apple_pie": ["apple_pie/1011328b"], "waffles": ["waffles/2", "waffles/3"]}


def dishes() -> dict[str, str | bytes | None]:
    files: dict[str, str | bytes | None] = {
        f"food-101/images/{image}.jpg": None
        for each in (TRAIN, TEST)
        for images in each.values()
        for image in images
    }
    files["food-101/meta/train.json"] = json.dumps(TRAIN)
    files["food-101/meta/test.json"] = json.dumps(TEST)
    files["food-101/meta/classes.txt"] = "apple_pie\nwaffles\n"
    return files


def test_train_and_test_dishes_are_one_pool(tmp_path: Path) -> None:
    dataset = downloaded(small("food101", 2, 6), tmp_path, dishes())
    assert dataset.class_names == ("apple pie", "waffles")
    assert dataset.sample_names[2:4] == ("images/apple_pie/1011328b.jpg", "images/waffles/1.jpg")
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.groups is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"apple_pie": 7}', "the images of 'apple_pie' are no list"),
        ('["apple_pie"]', "holds no JSON object|list of Food-101"),
        ('{"apple_pie"', "not a readable list of Food-101"),
        ('{"apple_pie": ["apple_pie/1005649"]}', "'images/apple_pie/1005649.jpg' is listed a sec"),
    ],
)
def test_damaged_lists_get_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    lay_out(tmp_path, {**dishes(), "food-101/meta/test.json": text})
    with pytest.raises(DataError, match=message):
        load_collection(small("food101", 2, 6), tmp_path)
