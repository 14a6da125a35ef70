from __future__ import annotations

from functools import partial
from pathlib import Path
from shutil import rmtree

import pytest
from data.collections.conftest import BIRDS, Files, birds, downloaded, lay_out, small

from oodml.data import load_dataset
from oodml.data.check import check_dataset, report_lines
from oodml.data.collections.download import Counts, load_collection
from oodml.errors import DataError


def test_train_and_test_birds_are_one_pool_with_the_names_last_word_as_group(
    tmp_path: Path,
) -> None:
    dataset = downloaded(small("cub200", 3, 9), tmp_path, birds())
    assert dataset.class_names == ("American Crow", "Black footed Albatross", "Laysan Albatross")
    assert dataset.groups == ("Crow", "Albatross", "Albatross")
    assert dataset.sample_names[0] == "images/029.American_Crow/American_Crow_0000_7961.jpg"
    assert dataset.labels.tolist() == 3 * [0] + 3 * [1] + 3 * [2]
    assert (dataset.name, dataset.source) == ("cub200", "cub200")
    assert dataset[8][0].size == (6, 6)


def test_the_folder_itself_the_one_above_and_the_environment_are_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = small("cub200", 3, 9)
    above = lay_out(tmp_path / "data" / "cub200", birds())
    itself = load_collection(collection, above / "CUB_200_2011")
    assert itself.fingerprint == load_collection(collection, str(above)).fingerprint
    monkeypatch.setenv("OODML_DATA", str(tmp_path / "data"))
    assert load_collection(collection).fingerprint == itself.fingerprint


def test_the_whole_collection_is_asked_for_by_its_name(tmp_path: Path) -> None:
    lay_out(tmp_path, birds())
    with pytest.raises(DataError) as caught:
        load_dataset("cub200", root=tmp_path)
    message = str(caught.value)
    assert "holds 3 classes and 9 images; cub200 must have 200 classes and 11,788 images" in message
    assert message.endswith(f"Type: oodml dataset download cub200 --root {tmp_path}")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("images.txt", "1 a/b.jpg\n2\n", r"images\.txt, line 2: '2' is not 'IMAGE PATH'"),
        ("images.txt", "77 a.jpg\n", r"images\.txt, line 1: image 77 has no class"),
        ("images.txt", "1 ../../x.jpg\n", "'images/../../x.jpg' is not a path inside"),
        ("images.txt", "", "name no image"),
        ("images.txt", b"1 \xff\xfe.jpg\n", "not a readable UTF-8 text file"),
        ("classes.txt", "1 002.Crow\n", "'1 002.Crow' is not 'NUMBER NUMBER.NAME'"),
        ("classes.txt", "1 001.__\n", "'1 001.__' is not 'NUMBER NUMBER.NAME'"),
        ("image_class_labels.txt", "1 one two\n1\n", "line 2: '1' is not 'IMAGE CLASS'"),
    ],
)
def test_damaged_lists_get_one_clear_line(
    tmp_path: Path, file: str, text: str | bytes, message: str
) -> None:
    files: Files = {**birds(), f"CUB_200_2011/{file}": text}
    with pytest.raises(DataError, match=message) as caught:
        load_collection(small("cub200", 3, 9), lay_out(tmp_path, files))
    assert "\n" not in str(caught.value)


def test_a_twice_listed_and_a_missing_image_are_named(tmp_path: Path) -> None:
    files = birds()
    lines = str(files["CUB_200_2011/images.txt"])
    twice = lines.replace("_0001_", "_0000_", 1)
    lay_out(tmp_path, {**files, "CUB_200_2011/images.txt": twice})
    with pytest.raises(DataError, match=r"line 2: .*_0000_7961.jpg' is listed a second time"):
        load_collection(small("cub200", 3, 9), tmp_path)
    lay_out(tmp_path, files)
    folder = tmp_path / "CUB_200_2011" / "images" / BIRDS[2]
    (folder / "American_Crow_0001_7961.jpg").unlink()
    (folder / "American_Crow_0002_7961.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 9 images that cub200 lists are missing or empty"):
        load_collection(small("cub200", 3, 9), tmp_path)


def test_a_collection_of_which_a_part_is_there_is_reported(tmp_path: Path) -> None:
    lay_out(tmp_path, birds())
    images = tmp_path / "CUB_200_2011" / "images"
    for name in ("001.Black_footed_Albatross", "029.American_Crow"):
        rmtree(images / name)
    report = check_dataset("cub200", root=tmp_path).report
    assert report.counts == Counts(200, 1, 11_788, 3)
    assert (report.images, report.classes, report.sound) == (9, 3, False)
    assert {each.about for each in report.broken} == {"there is no such file"}
    small = {each.name: each.images for each in report.small_classes}
    assert small == {"American Crow": 0, "Black footed Albatross": 0}
    assert len(report.refused) == 2
    lines = list(report_lines(report))
    assert lines[1].endswith("found are 1 of 200 classes and 3 of 11,788 images")
    for refusing in (load_dataset, partial(load_dataset, skip_broken=True)):
        with pytest.raises(DataError, match=r"6 of 9 images that cub200 lists are missing"):
            refusing("cub200", root=tmp_path)


def test_lists_cut_short_are_a_wrong_count(tmp_path: Path) -> None:
    lay_out(tmp_path, birds())
    report = check_dataset("cub200", root=tmp_path).report
    assert (report.broken, report.counts) == ((), Counts(200, 3, 11_788, 9))
    assert len(report.refused) == 1 and "must have 200 classes and 11,788" in report.refused[0]
    (tmp_path / "CUB_200_2011" / "images.txt").unlink()
    with pytest.raises(DataError, match=r"is not whole: it lacks images\.txt"):
        check_dataset("cub200", root=tmp_path)
