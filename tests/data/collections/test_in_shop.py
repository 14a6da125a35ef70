from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from data.collections.conftest import archive_of, lay_out, pack, small

from oodml.data.collections.download import download_collection, load_collection
from oodml.errors import DataError

ROWS = (
    "img/WOMEN/Dresses/id_00000002/02_1_front.jpg id_00000002 train",
    "img/WOMEN/Dresses/id_00000002/02_2_side.jpg   id_00000002   train",
    "img/MEN/Denim/id_00000080/01_1_front.jpg id_00000080 query",
    "img/MEN/Denim/id_00000080/01_2_side.jpg id_00000080 gallery",
    "img/MEN/Denim/id_00000080/01_3_back.jpg id_00000080 gallery",
    "img/MEN/Pants/id_00000080/01_7_additional.jpg id_00000080 gallery",
    "img/WOMEN/Tees_Tanks/id_00000090/01_1_front.jpg id_00000090 train",
)
LIST = f"{len(ROWS)}\nimage_name item_id evaluation_status\n" + "\n".join(ROWS) + "\n"
IMAGES: dict[str, str | bytes | None] = {row.split()[0]: None for row in ROWS}


def test_train_query_and_gallery_are_one_pool_by_item(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path, {**IMAGES, "Eval/list_eval_partition.txt": LIST})
    dataset = load_collection(small("in_shop", 3, 7), tmp_path)
    assert dataset.class_names == ("MEN/Denim id_00000080", "WOMEN/Dresses id_00000002")
    assert dataset.groups == ("MEN/Denim", "WOMEN/Dresses")
    assert dataset.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert "left out 1 classes of a single image" in caplog.text
    assert dataset.skipped == ("img/WOMEN/Tees_Tanks/id_00000090/01_1_front.jpg",)


def test_the_official_folders_are_known_too(tmp_path: Path) -> None:
    files = {f"Img/{name}": None for name in IMAGES}
    lay_out(tmp_path, {**files, "Eval/list_eval_partition.txt": LIST})
    dataset = load_collection(small("in_shop", 3, 7), tmp_path)
    assert dataset.sample_names[0] == "Img/img/MEN/Denim/id_00000080/01_1_front.jpg"


def test_files_put_there_by_hand_are_extracted_and_no_others_are_fetched(tmp_path: Path) -> None:
    collection = small("in_shop", 3, 7)
    with pytest.raises(DataError, match=r"needs .*img\.zip\. Agree to the terms at https://"):
        download_collection(collection, tmp_path)
    pack(tmp_path / "img.zip", IMAGES)
    with pytest.raises(DataError, match=r"needs .*list_eval_partition\.txt\. Agree"):
        download_collection(collection, tmp_path)
    pack(tmp_path / "list_eval_partition.txt", {"": LIST})
    download_collection(collection, tmp_path)
    assert len(load_collection(collection, tmp_path)) == 6


def test_what_lies_there_packed_is_said(tmp_path: Path) -> None:
    packed = pack(tmp_path / "img.zip", IMAGES)
    collection = small("in_shop", 3, 7)
    collection = replace(collection, archives=(archive_of(packed), collection.archives[1]))
    with pytest.raises(DataError, match=r"img\.zip exists but is not extracted"):
        load_collection(collection, tmp_path)


@pytest.mark.parametrize(
    "line", ["img/a.jpg id_1 train", f"{ROWS[0]} train", "img/a/b/c/d.jpg i x"]
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    lay_out(tmp_path, {**IMAGES, "list_eval_partition.txt": LIST + line})
    with pytest.raises(DataError, match=r"line 10: .* is not 'IMAGE ITEM train\|query\|gallery'"):
        load_collection(small("in_shop", 3, 7), tmp_path)
