from __future__ import annotations

from pathlib import Path

import pytest
from data.collections.conftest import downloaded, lay_out, small

from oodml.data.collections.download import load_collection
from oodml.errors import DataError

HEADER = "image_id class_id super_class_id path\n"
ROWS = {
    "Ebay_train.txt": (
        "1 1 1 bicycle_final/111085122871_0.JPG\n2 1 1 bicycle_final/111085122871_1.JPG\n"
        "3 2 4 coffee_maker_final/1112_0.JPG\n4 2 4 coffee_maker_final/1112_1.JPG\n"
    ),
    "Ebay_test.txt": (
        "5 11319 4 coffee_maker_final/2000_0.JPG\n6 11319 4 coffee_maker_final/2000_2.JPG\n"
        "7 11320 1 bicycle_final/31_0.JPG\n8 11320 1 bicycle_final/31_1.JPG\n"
        "9 11320 1 bicycle_final/31_2.JPG\n"
    ),
}


def products() -> dict[str, str | bytes | None]:
    files: dict[str, str | bytes | None] = {}
    for name, rows in ROWS.items():
        files[f"Stanford_Online_Products/{name}"] = HEADER + rows
        for row in rows.splitlines():
            files[f"Stanford_Online_Products/{row.split()[3]}"] = None
    return files


def test_products_are_named_by_category_and_number(tmp_path: Path) -> None:
    dataset = downloaded(small("sop", 4, 9), tmp_path, products())
    names = ("bicycle 00001", "bicycle 11320", "coffee maker 00002", "coffee maker 11319")
    assert dataset.class_names == names
    assert dataset.groups == ("bicycle", "bicycle", "coffee maker", "coffee maker")
    assert dataset.sample_names[0] == "bicycle_final/111085122871_0.JPG"
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3]


def test_a_list_without_its_last_lines_is_counted_out(tmp_path: Path) -> None:
    files = products()
    files["Stanford_Online_Products/Ebay_test.txt"] = (
        HEADER + ROWS["Ebay_test.txt"].rpartition("9 ")[0]
    )
    lay_out(tmp_path, files)
    with pytest.raises(DataError, match=r"holds 4 classes and 8 images; sop must have 4 .* 9 im"):
        load_collection(small("sop", 4, 9), tmp_path)


@pytest.mark.parametrize(
    "line", ["5 x 4 mug_final/1_0.JPG", "5 1 4 1_0.JPG", "5 1 mug_final/1.JPG"]
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    files = products()
    files["Stanford_Online_Products/Ebay_test.txt"] = f"{HEADER}{line}\n"
    lay_out(tmp_path, files)
    with pytest.raises(
        DataError, match=rf"Ebay_test\.txt, line 2: '{line}' is not 'image_id class"
    ):
        load_collection(small("sop", 4, 9), tmp_path)
