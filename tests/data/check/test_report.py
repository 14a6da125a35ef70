import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from oodml.data.check import Leak, PoolReport, check_dataset, report_lines
from oodml.data.check.report import Named, SmallClass
from oodml.data.collections.download import Counts
from oodml.data.collections.registry import _REGISTRY, Collection
from oodml.data.folder import load_folder
from oodml.errors import DataError

Picture = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def report(copies_pool: Path) -> PoolReport:
    return check_dataset(copies_pool).report


@pytest.fixture
def poor(tmp_path: Path, picture: Picture) -> Path:
    """A pool with every fault at once, which `load_dataset` refuses."""
    root = tmp_path / "poor"
    for name in ("full/1.png", "full/2.png", "lone/1.png", "half/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(sum(name.encode())).save(root / name)
    (root / "none").mkdir()
    (root / "half" / "2.png").write_bytes((root / "half" / "1.png").read_bytes()[:900])
    (root / "half" / "3.png").write_bytes(b"")
    picture(7).save(root / "full" / "a photograph.png", "JPEG")
    return root


def test_planted_copies_across_classes_are_found_and_nothing_else(report: PoolReport) -> None:
    found = {each.images: (each.kind, each.classes) for each in report.across_classes}
    assert found == {
        ("a/0.png", "b/again.jpg"): ("near", ("a", "b")),
        ("a/1.png", "c/half.png"): ("near", ("a", "c")),
        ("a/2.png", "c/turned.jpg"): ("near", ("a", "c")),
        ("a/3.png", "c/other bytes.bmp"): ("exact", ("a", "c")),
    }
    assert all(each.distance <= report.max_distance for each in report.across_classes)
    assert [each.images for each in report.within_classes] == [("d/0.png", "d/twice.png")]


def test_blank_images_are_no_duplicates(report: PoolReport) -> None:
    assert report.blank == ("a/blank.png", "b/blank.png", "c/blank.png")


def test_counts_sizes_and_formats(report: PoolReport) -> None:
    assert (report.images, report.classes) == (28, 4)
    assert (report.class_sizes.smallest, report.class_sizes.largest) == (6, 9)
    assert report.widths is not None and report.heights is not None
    # The turned picture counts upright, as the networks see it: 96 x 80.
    assert (report.widths.smallest, report.widths.median, report.widths.largest) == (48, 96, 96)
    assert (report.heights.smallest, report.heights.largest) == (40, 80)
    assert report.formats == {"PNG": 25, "JPEG": 2, "BMP": 1}
    assert report.modes == {"RGB": 28}
    assert not report.sound


def test_different_pictures_are_sound(tmp_path: Path, picture: Picture) -> None:
    for number in range(24):
        path = tmp_path / "pool" / f"{number % 6}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    check = check_dataset(tmp_path / "pool")
    assert check.report.sound
    assert check.decoding.tolist() == list(range(24))
    assert "nothing wrong was found" in list(report_lines(check.report))


def test_all_faults_of_a_refused_pool_are_told_at_once(poor: Path) -> None:
    check = check_dataset(poor)
    report = check.report
    assert [each.name for each in report.broken] == ["half/2.png", "half/3.png"]
    assert report.broken[1].about == "the file is empty"
    small = {each.name: each.images for each in report.small_classes}
    assert small == {"half": 1, "lone": 1, "none": 0}
    assert [(each.name, each.about) for each in report.wrong_suffixes] == [
        ("full/a photograph.png", "JPEG")
    ]
    assert len(report.refused) == 2
    assert check.decoding.tolist() == [0, 1, 2, 3, 6]
    text = "\n".join(report_lines(report))
    for words in ("do not decode: 2", "that decode: 3", "not their format: 1", "for 2 reasons"):
        assert words in text


def test_a_table_with_faults_is_listed_and_grouped(tmp_path: Path, picture: Picture) -> None:
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "list.csv").write_text(
        "path,label,group\n0.png,one,x\n1.png,one,x\n1.png,one,x\n2.png,two,y\ngone.png,two,x\n"
    )
    report = check_dataset(tmp_path / "list.csv").report
    assert [each.name for each in report.broken] == ["gone.png"]
    groups = [(each.name, each.classes, each.images) for each in report.groups or ()]
    assert groups == [("x", 1, 2), ("y", 1, 2)]
    listed = "\n".join(report.refused)
    for words in ("listed a second time", "do not exist", "in group 'x' here"):
        assert words in listed


def test_a_collection_is_checked_by_name(
    tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cat").mkdir()
    for number in range(2):
        picture(number).save(tmp_path / "cat" / f"{number}.png")
    toy = Collection("toy", "two pictures", load_folder, classes=1, images=2)
    monkeypatch.setitem(_REGISTRY, "toy", toy)
    report = check_dataset("toy", root=tmp_path).report
    assert (report.source, report.images, report.sound) == ("toy", 2, True)
    assert report.counts == Counts(1, 1, 2, 2)


def test_a_pool_without_one_good_image_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(3):
        (tmp_path / "a" / f"{number}.jpg").write_bytes(b"no image")
    check = check_dataset(tmp_path)
    assert (len(check.report.broken), check.report.widths, len(check.decoding)) == (3, None, 0)
    assert any("do not decode: 3" in line for line in report_lines(check.report))


def test_where_there_is_no_pool_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no class folders"):
        check_dataset(tmp_path)


def test_names_of_any_script_are_written(tmp_path: Path, picture: Picture) -> None:
    folder = tmp_path / "pool" / "猫 <b>"
    folder.mkdir(parents=True)
    for number, name in enumerate(("a\nb.png", "é.png")):
        picture(number).save(folder / name)
    picture(0).save(folder / "copy.png")
    report = check_dataset(tmp_path / "pool").report
    assert all("\n" not in line for line in report_lines(report))


def test_the_file_holds_the_whole_report(report: PoolReport, tmp_path: Path) -> None:
    report.save(tmp_path / "report.json")
    record = json.loads((tmp_path / "report.json").read_text())
    assert record == json.loads(json.dumps(report.to_json()))
    assert (record["schema"], record["sound"], record["images"]) == (2, False, report.images)
    assert [each["images"] for each in record["within_classes"]] == [
        list(each.images) for each in report.within_classes
    ]


def test_everything_that_is_found_makes_a_pool_unsound(report: PoolReport) -> None:
    none: dict[str, Any] = dict.fromkeys(
        ("refused", "small_classes", "broken", "blank", "across_classes", "within_classes"), ()
    )
    sound = replace(report, **none, wrong_suffixes=(), ladder=(Leak(0, 9, 0, 0, ()),))
    assert sound.sound
    assert replace(sound, counts=Counts(None, 1, 9, 9)).sound
    for change in (
        {"refused": ("no",)},
        {"small_classes": (SmallClass("a", 1),)},
        {"broken": (Named("a", "empty"),)},
        {"blank": ("a",)},
        {"across_classes": report.across_classes},
        {"within_classes": report.within_classes},
        {"wrong_suffixes": (Named("a", "PNG"),)},
        {"counts": Counts(2, 1, None, 9)},
        {"counts": Counts(None, 1, 8, 9)},
        {"ladder": (Leak(0, 9, 1, 0, ()),)},
        {"ladder": (Leak(0, 9, 0, 1, ()),)},
    ):
        found: Any = change
        assert not replace(sound, **found).sound, change


def test_a_search_cut_short_is_said(report: PoolReport) -> None:
    for reach, words in ((4, "at most 4 of 256 bits"), (-1, "exact ones alone")):
        assert words in list(report_lines(replace(report, searched_distance=reach)))[-1]


def test_near_is_said_without_names_of_arguments(report: PoolReport) -> None:
    line = list(report_lines(report))[-1]
    assert line.startswith("near") and "look alike" in line and "_" not in line
