"""Folders as they come: links, odd names, unreadable places, very many files."""

import inspect
import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodml.data import broken_images, load_dataset
from oodml.data.folder import load_images
from oodml.data.load import list_dataset
from oodml.errors import DataError
from oodml.text import as_text, first_few

ODD_NAMES = (
    "two words",
    'it\'s "quoted"',
    "two\nlines",
    "tab\tand\x1b[31mred",
    "emoji 👩‍👩‍👧",
    "日本語",
    "עברית",
    "हिन्दी",
    "-rf",
    "a,b;c",
    "<b>bold",
    "%s %d {0}",
    "\\x",
    "n" * 255,
    "é" * 127,
    os.fsdecode(b"latin-1 caf\xe9"),
)


def draw(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(path, "PNG")
    return path


def pool(root, *classes):
    for each in classes or ("ape", "zebra"):
        for number in range(2):
            draw(root / each / f"{number}.png")
    return root


def one_line(error):
    text = str(error.value)
    assert text.isprintable(), text
    return text


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_is_read_and_becomes_one_line_of_text(tmp_path, name):
    root = pool(tmp_path / "pool", name, "zebra")
    draw(root / "zebra" / f"{name[: 255 - 4] if name.isascii() else name[:100]}.png")
    dataset = load_dataset(root)
    assert sorted(dataset.class_names) == sorted([as_text(name), "zebra"])
    assert len(dataset) == 5
    for text in (*dataset.class_names, *dataset.sample_names):
        assert len(text.splitlines()) == 1 and "\x1b" not in text
        text.encode()
    assert all(image.size == (4, 4) for image, _ in (dataset[row] for row in range(5)))
    assert len(dataset.fingerprint) == 16


def test_names_as_text():
    assert as_text("plain name") == "plain name"
    assert as_text("日本語 👩‍👩‍👧 हिन्दी") == "日本語 👩‍👩‍👧 हिन्दी"
    assert as_text("a\nb\x00\x85\u2028") == r"a\nb\x00\x85\u2028"
    assert as_text(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert as_text("e\u0301") == "\u00e9"


def test_two_ways_to_write_an_accent_are_one_class_said_aloud(tmp_path, caplog):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = pool(tmp_path, "zebra")
    draw(root / composed / "1.png")
    draw(root / apart / "2.png")
    with caplog.at_level(logging.WARNING, "oodml"):
        dataset = load_dataset(root)
    assert dataset.class_names == (composed, "zebra")
    assert dataset.sample_names[:2] == (f"{composed}/1.png", f"{composed}/2.png")
    assert [dataset.paths[row].parent.name for row in (0, 1)] == [composed, apart]
    assert "1 class names are written in several ways" in caplog.text
    draw(root / apart / "1.png")
    with pytest.raises(DataError, match=r"1 files have the name of another.*NFC.*'café/1.png'"):
        load_dataset(root)


def test_a_locale_without_utf8_does_not_change_the_fingerprint(tmp_path):
    pool(tmp_path, "猫", "café")
    code = (
        "from oodml.data import load_dataset; import sys; pool = load_dataset(sys.argv[1]); "
        "print(pool.fingerprint, ascii(pool.class_names))"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = [
        subprocess.run(
            [sys.executable, "-c", code, tmp_path],
            env={**os.environ, **locale},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for locale in ({"PYTHONUTF8": "1"}, plain)
    ]
    assert said[0] == said[1] and "u732b" in said[0]
    assert as_text("\ud800") == "\\ud800"  # half a character, which is no byte either


def test_the_form_of_an_accent_does_not_change_the_fingerprint(tmp_path):
    prints = {
        load_dataset(pool(tmp_path / form, unicodedata.normalize(form, "café"), "ape")).fingerprint
        for form in ("NFC", "NFD")
    }
    assert len(prints) == 1


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_class_folder_that_links_to_its_parent_is_refused(tmp_path, target):
    root = pool(tmp_path / "far" / "photos")
    (root / "loop").symlink_to(target)
    with pytest.raises(
        DataError, match=r"class folder 'loop' links to a folder that holds the col"
    ):
        load_dataset(root)
    dataset, refused = list_dataset(root)
    assert len(refused) == 1 and dataset.class_names[:2] == ("ape", "loop")


@pytest.mark.parametrize("target", ["ape", "ape/deep"])
def test_a_link_that_makes_one_folder_two_classes_is_refused(tmp_path, target):
    root = pool(tmp_path / "photos", "ape", "ape/deep", "zebra")
    (root / "monkey").symlink_to(target)
    with pytest.raises(DataError, match=r"'ape' and 'monkey' are the same or one holds the other"):
        load_dataset(root)


def test_two_links_to_one_folder_are_refused_and_links_elsewhere_are_followed(tmp_path):
    pool(tmp_path / "store", "x", "y")
    root = pool(tmp_path / "photos")
    (root / "x").symlink_to(tmp_path / "store" / "x")
    (root / "y").symlink_to(tmp_path / "store" / "y")
    assert load_dataset(root).class_names == ("ape", "x", "y", "zebra")
    (root / "z").symlink_to(tmp_path / "store")
    with pytest.raises(DataError, match=r"'z' and 'x' are the same or one holds the other"):
        load_dataset(root)


def test_loops_of_links_end_and_are_said_aloud(tmp_path, caplog):
    root = pool(tmp_path)
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "gone").symlink_to("nowhere")
    (root / "ape" / "self").symlink_to(".")
    (root / "ape" / "up.png").symlink_to("..")
    (root / "ape" / "round").symlink_to("round")
    with caplog.at_level(logging.WARNING, "oodml"):
        dataset = load_dataset(root)
    assert len(dataset) == 4
    assert "3 links lead nowhere: 'a', 'b', 'gone'" in caplog.text
    assert "2 links to folders inside class folders are not followed" in caplog.text


def test_an_image_link_that_leads_nowhere_is_a_broken_image(tmp_path, caplog):
    root = pool(tmp_path)
    (root / "ape" / "9.png").symlink_to("nowhere.png")
    (root / "ape" / "8.png").symlink_to("8.png")
    with caplog.at_level(logging.WARNING, "oodml"):
        dataset = load_dataset(root)
    assert "2 links lead nowhere: 'ape/8.png', 'ape/9.png'" in caplog.text
    assert (len(dataset), dataset.sizes[2]) == (6, 0)
    with pytest.raises(DataError, match=r"9.png: there is no such file"):
        dataset[3]
    skipped = load_dataset(root, skip_broken=True)
    assert skipped.skipped == ("ape/8.png", "ape/9.png")
    assert skipped.fingerprint == load_dataset(pool(tmp_path / "same")).fingerprint


def test_pipes_and_folders_with_an_images_name_are_left_out_aloud(tmp_path, caplog):
    root = pool(tmp_path)
    os.mkfifo(root / "ape" / "pipe.png")
    draw(root / "ape" / "folder.png" / "5.png")
    with caplog.at_level(logging.WARNING, "oodml"):
        dataset = load_dataset(root)
    assert "1 pipes, devices or folders" in caplog.text
    assert dataset.sample_names[2] == "ape/folder.png/5.png"


def test_pictures_of_formats_that_are_not_read_are_said_aloud(tmp_path, caplog):
    root = pool(tmp_path)
    (root / "ape" / "IMG.HEIC").write_bytes(b"")
    (root / "ape" / "notes.txt").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "oodml"):
        assert len(load_dataset(root)) == 4
    assert "1 files are of formats that are not read here" in caplog.text
    assert "'ape/IMG.HEIC'" in caplog.text and "notes" not in caplog.text


def test_a_folder_that_cannot_be_listed_is_refused_not_dropped(tmp_path, monkeypatch):
    root = pool(tmp_path, "ape", "zebra", "zebra/deep")
    scandir = os.scandir

    def denied(path):
        if str(path).endswith(("deep", "locked")):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"cannot list the folder .*zebra/deep: Permission denied"):
        load_dataset(root)
    dataset, refused = list_dataset(root)
    assert (len(dataset), len(refused)) == (4, 1)
    (root / "locked").mkdir()
    with pytest.raises(DataError, match=r"cannot list the folder .*locked: Permission denied"):
        load_images(root / "locked")


def test_a_very_deep_folder_is_read_without_recursion(tmp_path):
    root = pool(tmp_path, "ape", "zebra")
    draw(root / "ape" / "/".join(["d"] * 300) / "deep.png")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        assert len(load_dataset(root)) == 5
    finally:
        sys.setrecursionlimit(limit)


def test_paths_longer_than_the_system_takes_are_one_line(tmp_path, monkeypatch):
    root = pool(tmp_path)
    monkeypatch.chdir(root / "ape")
    for _ in range(20):
        Path("n" * 250).mkdir()
        os.chdir("n" * 250)
    monkeypatch.chdir(root)
    with pytest.raises(DataError, match=r"cannot list the folder .*: File name too long") as caught:
        load_dataset(root)
    assert len(one_line(caught)) < 500


def test_errors_shorten_very_long_names():
    assert first_few(["n" * 1000]) == repr("n" * 300 + "...")


def many(root, count):
    """A class folder of so many files, all links to one drawing, beside a small one."""
    pool(root)
    place = draw(root / "many" / "0000000.png")
    for number in range(1, count):
        if number % 50_000 == 0:  # a file system allows 65,000 links to one file
            place = draw(root / "many" / f"{number:07d}.png")
            continue
        os.link(place, root / "many" / f"{number:07d}.png")
    return root


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_very_many_files_in_one_folder(tmp_path, count):
    dataset = load_dataset(many(tmp_path, count))
    assert len(dataset) == count + 4
    assert dataset.sample_names[2] == "many/0000000.png"
    assert list(dataset.sample_names) == sorted(dataset.sample_names)
    assert dataset.paths[2].is_file() and dataset.paths[-3].name == f"{count - 1:07d}.png"
    assert len(dataset.paths[1:4]) == 3
    assert np.all(dataset.sizes > 0)


@pytest.mark.parametrize("source", ["~nobody-of-this-name/x", "no\nsuch/x", "no\0such/x"])
def test_a_source_that_is_no_path_is_one_line(source):
    with pytest.raises(DataError, match="there is no file or folder"):
        load_dataset(source)


def test_images_without_classes_can_skip_broken_ones(tmp_path):
    for number in range(3):
        draw(tmp_path / f"{number}.png")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "bad.png").write_bytes(b"")
    assert load_images(tmp_path).sample_names[3] == "deep/bad.png"
    assert load_images(tmp_path, skip_broken=True).skipped == ("deep/bad.png",)


def test_broken_images_are_found_wherever_they_stand(tmp_path):
    for number in range(8):
        draw(tmp_path / "a" / f"{number}.png")
    for number in (1, 4, 7):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"")
    broken = broken_images(load_dataset(tmp_path))
    assert [name for name, _ in broken] == ["a/1.png", "a/4.png", "a/7.png"]


def test_class_folders_whose_names_begin_with_a_dot_are_never_left_out_in_silence(tmp_path, caplog):
    for name in ("asp", ".net", ".git", ".empty"):
        (tmp_path / name).mkdir()
    for name in ("asp/0.png", "asp/1.png", ".git/0.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    with caplog.at_level(logging.WARNING, "oodml"):
        assert load_dataset(tmp_path).class_names == ("asp",)
    assert all(name in caplog.text for name in (".git", ".empty", ".net"))
    (tmp_path / ".net" / "deep").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / ".net" / "deep" / "0.png")
    with pytest.raises(DataError, match=r"'\.net'\. ") as error:
        load_dataset(tmp_path)
    assert ".git" not in str(error.value)
    dataset, refused = list_dataset(tmp_path)
    assert len(dataset) == 2 and len(refused) == 1
