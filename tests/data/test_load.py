import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodml.data import broken_images, broken_images_error, collection_names, load_dataset
from oodml.errors import DataError, UsageError


def draw(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for name in ("zebra/1.png", "zebra/deep/2.JPG", "ape/b.png", "ape/a.png"):
        draw(root / name)
    return root


def test_folder_is_sorted_by_class_then_sample(photos):
    draw(photos / ".ipynb_checkpoints" / "1.png")
    draw(photos / "ape" / ".thumb.png")
    draw(photos / "ape" / ".cache" / "1.png")
    (photos / "ape" / "notes.txt").write_text("no image")
    dataset = load_dataset(photos)
    assert dataset.class_names == ("ape", "zebra")
    assert dataset.sample_names == ("ape/a.png", "ape/b.png", "zebra/1.png", "zebra/deep/2.JPG")
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.labels.dtype == np.int64
    assert dataset.sizes.tolist() == [path.stat().st_size for path in dataset.paths]
    assert (dataset.name, dataset.source, dataset.groups) == ("photos", str(photos), None)
    image, label = dataset[3]
    assert (image.mode, label) == ("RGB", 1)


def test_fingerprint_does_not_depend_on_the_place(photos, tmp_path):
    before = load_dataset(photos).fingerprint
    moved = photos.rename(tmp_path / "elsewhere")
    assert load_dataset(moved).fingerprint == before
    (moved / "ape/a.png").rename(moved / "zebra/a.png")
    draw(moved / "ape/a2.png")
    assert load_dataset(moved).fingerprint != before


@pytest.mark.parametrize("kind", ["folder", "collection"])
def test_some_rows_are_a_dataset_of_their_own(photos, kind):
    dataset = load_dataset(photos)
    if kind == "collection":
        dataset = replace(dataset, paths=tuple(dataset.paths))
    dataset = replace(dataset, groups=("primate", "horse"), skipped=("ape/c.png",))
    before = dataset.fingerprint
    rows = np.array([3, 0, 1])
    part = dataset.take(rows)
    assert part.sample_names == ("zebra/deep/2.JPG", "ape/a.png", "ape/b.png")
    assert list(part.paths) == [photos / name for name in part.sample_names]
    assert part.labels.tolist() == [1, 0, 0]
    assert part.sizes.tolist() == dataset.sizes[rows].tolist()
    kept = ("name", "class_names", "groups", "source", "skipped")
    assert all(getattr(part, field) == getattr(dataset, field) for field in kept)
    assert part.fingerprint != before == dataset.take(np.array([2, 3, 1, 0])).fingerprint
    assert dataset.take(np.array([0])).class_names == ("ape", "zebra")


def test_bad_folders_get_one_clear_line(photos, tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        load_dataset(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no class folders"):
        load_dataset(tmp_path / "empty")
    with pytest.raises(DataError, match="holds 2 images but no class folders"):
        load_dataset(photos / "ape")
    (photos / "newt").mkdir()
    with pytest.raises(DataError, match="1 of 3 class folders hold no image: 'newt'"):
        load_dataset(photos)
    draw(photos / "newt" / "1.png")
    with pytest.raises(DataError, match=r"1 of 3 classes have fewer than 2 .* 'newt'"):
        load_dataset(photos)


def test_images_beside_the_class_folders_are_left_out_aloud(photos, caplog):
    draw(photos / "stray.png")
    with caplog.at_level(logging.WARNING, "oodml"):
        assert len(load_dataset(photos)) == 4
    assert "1 images outside" in caplog.text


def test_broken_images_are_found_all_at_once_and_skipped_on_request(photos, caplog):
    draw(photos / "ape/c.png")
    (photos / "ape/a.png").write_bytes(b"no image")
    half = photos / "zebra/3.png"
    half.write_bytes((photos / "zebra/1.png").read_bytes()[:40])
    dataset = load_dataset(photos)
    broken = broken_images(dataset)
    assert [name for name, _ in broken] == ["ape/a.png", "zebra/3.png"]
    message = str(broken_images_error(dataset, broken))
    assert "2 of 6 images do not decode: 'ape/a.png', 'zebra/3.png'" in message
    assert "skip_broken" in message
    with caplog.at_level(logging.WARNING, "oodml"):
        whole = load_dataset(photos, skip_broken=True)
    assert whole.skipped == ("ape/a.png", "zebra/3.png")
    assert "skipped 2 broken images: ape/a.png, zebra/3.png" in caplog.text
    assert whole.sample_names == ("ape/b.png", "ape/c.png", "zebra/1.png", "zebra/deep/2.JPG")
    assert whole.fingerprint != dataset.fingerprint
    assert len(whole) == len(whole.paths) == len(whole.sizes) == 4


def test_skipping_never_leaves_a_class_with_one_image(photos):
    (photos / "ape/a.png").write_bytes(b"")
    with pytest.raises(DataError, match="fewer than 2 usable images: 'ape'"):
        load_dataset(photos, skip_broken=True)
    (photos / "ape/b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 2 classes have fewer than 2 usable images: 'ape'"):
        load_dataset(photos, skip_broken=True)


def test_table_equals_folder_and_knows_groups(photos):
    rows = ["path,label,group,note"]
    rows += [f"{name}.png,ape,primate,x" for name in ("ape/b", "./ape/a")]
    rows += [f"{name},zebra,horse,x" for name in ("zebra/1.png", "zebra/deep/2.JPG")]
    table = photos / "list.csv"
    table.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    dataset = load_dataset(table)
    assert dataset.groups == ("primate", "horse")
    folder = load_dataset(photos)
    assert dataset.sample_names == folder.sample_names
    assert dataset.fingerprint == folder.fingerprint
    elsewhere = photos.parent / "list.csv"
    elsewhere.write_bytes(table.read_bytes())
    assert load_dataset(elsewhere, root=photos).fingerprint == folder.fingerprint
    with pytest.raises(DataError, match="4 of 4 files do not exist"):
        load_dataset(elsewhere)
    absolute = photos.parent / "absolute.csv"
    absolute.write_text(
        "path,label\n" + "\n".join(f'"{p}",{p.parent.name}' for p in folder.paths[:2])
    )
    assert load_dataset(absolute, root=photos).sample_names == ("ape/a.png", "ape/b.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path' and no column 'label'; its columns: none"),
        ("file;class\n", "no column 'path' and no column 'label'; its columns: 'file;class'"),
        ("path,class\nape/a.png,ape\n", "no column 'label'; its columns: 'path', 'class'"),
        ("path,label\n", "lists no images"),
        ("path,label\nape/a.png,ape\nape/x.png,ape\n", "1 of 2 files do not exist.*'ape/x.png'"),
        ("path,label\nape,ape\n", "1 of 1 files do not exist"),
        ("path,label\nape/a.png,ape\nape/./a.png,zebra\n", "line 3: 'ape/./a.png' is listed a sec"),
        ("path,label\nape/a.png,ape\nape/b.png,\n", "line 3: the label is empty"),
        ("path,label\nape/a.png\n", "line 2: the label is empty"),
        ("path,label\nape/a.png,ape,great\n", "line 2: more fields than columns"),
        (
            "path,label,group\nape/a.png,ape,x\nape/b.png,ape,y\n",
            "line 3: class 'ape' is in group 'y' here and in group 'x' before",
        ),
        ("path,label,group\nape/a.png,ape,x\nape/b.png,ape,\n", "line 3: the group is empty"),
        ("path,label\nape/a.png,ape\nape/b.png,monkey\n", "2 of 2 classes have fewer than 2"),
        ("path,label\nape/\0.png,ape\n", "files do not exist|not a readable"),
        ('path,label\n"ape/a.png,ape\n', "not a readable UTF-8 CSV"),
    ],
)
def test_bad_tables_get_one_clear_line(photos, text, message):
    table = photos / "list.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(table)
    assert "\n" not in str(caught.value)


def test_table_in_another_encoding_is_refused(photos):
    (photos / "list.csv").write_bytes("path,label\nä.png,ä\n".encode("utf-16"))
    with pytest.raises(DataError, match="not a readable UTF-8 CSV"):
        load_dataset(photos / "list.csv")


def test_unknown_names_get_the_closest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UsageError, match=r"^there is no file or folder 'emojy'.* Did you mean 'emoji'\?$"
    ):
        load_dataset("emojy")
    with pytest.raises(DataError, match=r"there is no file or folder lost\.csv"):
        load_dataset("lost.csv")
    (tmp_path / "notes.txt").write_text("path,label\n")
    with pytest.raises(DataError, match=r"neither a folder nor a \.csv file"):
        load_dataset("notes.txt")


def test_a_mistyped_folder_gets_its_closest_neighbour(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "plots", ".photo"):
        (tmp_path / name).mkdir()
    (tmp_path / "photo.txt").write_text("no source")
    for given, kind in (("photo", UsageError), ("./photo", DataError), (Path("Photo"), DataError)):
        with pytest.raises(kind, match=r"^there is no file or folder .*Did you mean 'photos'"):
            load_dataset(given)
    with pytest.raises(DataError, match=f"Did you mean '{tmp_path / 'photos'}'"):
        load_dataset(tmp_path / "phtos")
    with pytest.raises(DataError) as caught:
        load_dataset("absent/photo")
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        load_dataset("qqqqqqqq")
    assert all(name in str(caught.value) for name, _ in collection_names())


def test_root_is_refused_where_it_means_nothing(photos):
    with pytest.raises(UsageError, match="root is for CSV files"):
        load_dataset(photos, root=photos)


def test_collections_are_described():
    assert dict(collection_names())["emoji"]


def test_a_folder_that_bears_a_collections_name_is_reached_with_a_dot(photos, monkeypatch):
    photos.rename(photos.parent / "cub200")
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("OODML_DATA", str(photos.parent / "none"))
    assert load_dataset("./cub200").class_names == ("ape", "zebra")
    with pytest.raises(DataError, match=r"there is no cub200 at .*none/cub200"):
        load_dataset("cub200")
