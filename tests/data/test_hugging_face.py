import io
import json
import logging
import os
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from oodml.data import load_dataset
from oodml.data.check import check_dataset
from oodml.data.hugging_face import Address, choose_columns, parse_address, stored
from oodml.errors import DataError, UsageError

os.environ["HF_HUB_OFFLINE"] = "1"
datasets = pytest.importorskip("datasets")
parquet = pytest.importorskip("pyarrow.parquet")


def encoded(shade, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(file, kind)
    return file.getvalue()


def noise(seed):
    file = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(values).resize((96, 96)).save(file, "PNG")
    return file.getvalue()


def table(shades, labels, **more):
    """A split with an image per shade; `more` holds columns with their features."""
    columns = {
        "image": ([{"bytes": encoded(shade), "path": None} for shade in shades], datasets.Image()),
        "label": (labels, datasets.ClassLabel(names=["zebra", "ape"])),
        **more,
    }
    return datasets.Dataset.from_dict(
        {name: values for name, (values, _) in columns.items() if values is not None},
        features=datasets.Features(
            {name: each for name, (values, each) in columns.items() if values is not None}
        ),
    )


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Nothing goes into the home folder, nothing to the network."""
    monkeypatch.setenv("OODML_DATA", str(tmp_path / "collections"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return tmp_path


def saved(data, place, name="pets"):
    folder = place / name
    data.save_to_disk(folder)
    return f"hf:{folder}"


def test_all_splits_are_pooled_and_bytes_are_kept_as_they_are(place):
    splits = {"train": table([1, 2, 3], [0, 1, 0]), "test": table([4], [1])}
    source = saved(datasets.DatasetDict(splits), place)
    dataset = load_dataset(source)
    assert dataset.class_names == ("ape", "zebra")
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert [name.split("-")[0] for name in dataset.sample_names] == [
        "test/0000000", "train/0000001", "train/0000000", "train/0000002",
    ]  # fmt: skip
    assert [path.read_bytes() for path in dataset.paths] == [encoded(each) for each in (4, 2, 1, 3)]
    assert dataset.sizes.tolist() == [len(encoded(each)) for each in (4, 2, 1, 3)]
    assert dataset[0][0].getpixel((0, 0)) == (4, 0, 0)
    assert (dataset.name, dataset.source, dataset.groups) == ("pets", source, None)
    assert load_dataset(source, root=place / "other").fingerprint == dataset.fingerprint
    assert (place / "other").is_dir()


def test_a_single_table_a_parquet_file_and_its_folder_give_the_same_images(place):
    data = table([1, 2, 3, 4], [0, 1, 0, 1])
    first = load_dataset(saved(data, place))
    (place / "parquet").mkdir()
    data.to_parquet(place / "parquet" / "train.parquet")
    for source in (place / "parquet", place / "parquet" / "train.parquet"):
        dataset = load_dataset(f"hf:{source}")
        assert dataset.paths == first.paths
        assert dataset.class_names == first.class_names


def test_splits_and_columns_are_chosen_in_the_source(place):
    text, number = datasets.Value("string"), datasets.Value("int64")
    kinds = (["x", "y", "x", "y"], text)
    data = table(
        [1, 2, 3, 4], None, kind=kinds, number=([7, 7, 8, 8], number), score=([0.5] * 4,
        datasets.Value("float32")), area=(["n", "s", "n", "s"], text),
    )  # fmt: skip
    source = saved(datasets.DatasetDict({"train": data, "test": data}), place)
    with pytest.raises(
        UsageError, match=r"'kind', 'number', 'area' can each be the label.*\?label"
    ):
        load_dataset(source)
    dataset = load_dataset(f"{source}@train?label=kind&group=area")
    assert (dataset.class_names, dataset.groups, len(dataset)) == (("x", "y"), ("n", "s"), 4)
    assert load_dataset(f"{source}?label=number").class_names == ("7", "8")
    with pytest.raises(DataError, match="class '7' is in group 'y' here and in group 'x' before"):
        load_dataset(f"{source}?label=number&group=kind")
    with pytest.raises(UsageError, match="'score' cannot be the label; 'kind', 'number', 'area'"):
        load_dataset(f"{source}?label=score")
    with pytest.raises(UsageError, match=r"unknown column 'kin'. Did you mean 'kind'"):
        load_dataset(f"{source}?label=kin")
    with pytest.raises(UsageError, match=r"unknown split 'tests'. Did you mean 'test'"):
        load_dataset(f"{source}@tests?label=kind")


def test_a_class_column_goes_before_text_and_a_class_without_a_name_is_an_error(place):
    kind = ([0, 1, 0, 1], datasets.ClassLabel(names=["a", "b"]))
    data = table([1, 2, 3, 4], None, note=(["x"] * 4, datasets.Value("string")), kind=kind)
    assert load_dataset(saved(data, place)).class_names == ("a", "b")
    columns = choose_columns(datasets, data.features, {"group": "note"}, "pets")
    for number in (-2, 2):
        with pytest.raises(DataError, match=f"'kind' holds the class {number}; it has 2"):
            columns.label_text({"kind": number})
    with pytest.raises(DataError, match="'note' has rows without a group"):
        columns.group_text({"note": ""})


def test_offsets_that_point_elsewhere_are_seen_before_anything_is_read_there(place):
    source = saved(table([1, 2], [0, 0]), place)
    (arrow,) = (place / "pets").glob("*.arrow")
    first, second = len(encoded(1)), len(encoded(2))
    true = struct.pack("<3i", 0, first, first + second)
    whole = arrow.read_bytes()
    assert whole.count(true) == 1
    arrow.unlink()
    arrow.write_bytes(whole.replace(true, struct.pack("<3i", 0, first, first + second + 8)))
    with pytest.raises(DataError, match="Invalid: Length spanned by binary offsets"):
        load_dataset(source)


def test_rows_without_a_label_or_an_image_are_left_out_aloud(place, caplog):
    data = table([1, 2, 3, 4], [0, 0, -1, None])
    empty = datasets.Dataset.from_dict({"image": [None], "label": [0]}, features=data.features)
    source = saved(datasets.concatenate_datasets([data, empty]), place)
    with caplog.at_level(logging.WARNING, "oodml"):
        assert len(load_dataset(source)) == 2
    assert "left out 3 rows" in caplog.text


def test_images_in_files_stay_where_they_are(place):
    paths = [
        place / "folder" / name for name in ("ape/1.png", "ape/2.png", "newt/1.png", "newt/2.png")
    ]
    for shade, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(shade))
    dataset = load_dataset(f"hf:{place}/folder")
    assert list(dataset.paths) == paths
    assert dataset.class_names == ("ape", "newt")
    assert dataset.sample_names[:2] == ("train/0000000-1.png", "train/0000001-2.png")
    assert not (place / "collections").exists()


def test_the_check_reads_the_images_and_goes_on_where_loading_stops(place):
    text = datasets.Value("string")
    data = table([1, 2, 3, 4, 5, 6], [0, 0, 1, 0, 0, 0], kind=(["x", "x", "y", "z", "x", ""], text))
    rows = data.to_list()
    rows[1]["image"]["bytes"] = encoded(2)[:40]
    rows[2]["image"]["bytes"] = noise(7)
    rows[3]["image"]["bytes"] = noise(7)
    other = datasets.Dataset.from_list(rows[:2], features=data.features)
    first = datasets.Dataset.from_list(rows, features=data.features)
    source = saved(datasets.DatasetDict({"train": first, "test": other}), place)
    with pytest.raises(DataError):
        load_dataset(f"{source}?group=kind")
    report = check_dataset(f"{source}?group=kind").report
    assert (report.images, report.classes, report.sound) == (7, 2, False)
    assert [each.name.split("-")[0] for each in report.broken] == ["test/0000001", "train/0000001"]
    (across,) = report.across_classes
    assert [name.split("-")[0] for name in across.images] == ["train/0000002", "train/0000003"]
    assert (across.kind, across.classes) == ("exact", ("ape", "zebra"))
    assert [(each.name, each.images) for each in report.small_classes] == [("ape", 1)]
    assert [(each.name, each.images) for each in report.groups] == [("x", 6), ("y", 1)]
    assert (report.formats, report.counts) == ({"PNG": 5}, None)
    for words in (
        "train/0000005: the column 'kind' has rows without a group.",
        "class 'zebra' is in group 'z' here and in group 'x' before",
        "1 of 2 classes have fewer than 2 usable images: 'ape'",
    ):
        assert any(words in line for line in report.refused), words
    assert len(report.refused) == 3


def test_a_sound_split_is_checked_by_its_row_names_and_nothing_is_refused(place):
    data = table([1, 2, 3, 4], [0, 0, 1, 1])
    rows = [{**row, "image": {"bytes": noise(seed)}} for seed, row in enumerate(data.to_list())]
    whole = datasets.Dataset.from_list(rows, features=data.features)
    source = saved(datasets.DatasetDict({"train": whole}), place)
    report = check_dataset(source).report
    assert report.sound and report.fingerprint == load_dataset(source).fingerprint


def test_image_files_that_are_gone_are_named_row_by_row(place):
    data = table([1, 2, 3], [0, 0, 0])
    paths = [place / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(noise(number))
    rows = [{"image": {"path": str(path), "bytes": None}, "label": 0} for path in paths]
    stated = datasets.Dataset.from_list(rows, features=data.features).data.table
    # Unlike save_to_disk, this leaves the images where they are.
    metadata = data.features.arrow_schema.metadata
    parquet.write_table(stated.replace_schema_metadata(metadata), place / "list.parquet")
    source = f"hf:{place}/list.parquet"
    assert list(load_dataset(source).paths) == paths
    paths[1].unlink()
    with pytest.raises(DataError, match=r"0000001: cannot read .*1\.png: No such file") as caught:
        load_dataset(source)
    assert "\n" not in str(caught.value)
    report = check_dataset(source).report
    assert [each.about for each in report.broken] == ["there is no such file"]
    assert len(report.refused) == 1 and report.images == 3


def test_what_is_damaged_absent_or_of_another_kind_gets_one_line(place):
    source = saved(table([1, 2], [0, 0]), place)
    (arrow,) = (place / "pets").glob("*.arrow")
    whole = arrow.read_bytes()
    for cut in (0, 100, len(whole) // 2):
        arrow.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="cannot load hf:"):
            load_dataset(source)
    for damage in ("", "[]", "{}", '{"_data_files": 3}'):
        (place / "pets" / "state.json").write_text(damage)
        with pytest.raises(DataError, match="cannot load hf:"):
            load_dataset(source)
    with pytest.raises(DataError, match=r"(?s)cannot load hf:nobody/nothing.*Hub"):
        load_dataset("hf:nobody/nothing")
    with pytest.raises(UsageError, match="named OWNER/NAME"):
        load_dataset("hf:parquet")
    (place / "notes.txt").write_text("no table")
    with pytest.raises(UsageError, match=r"is not a file of one of .parquet, .arrow"):
        load_dataset(f"hf:{place}/notes.txt")
    with pytest.raises(DataError, match="no column can be the image"):
        load_dataset(saved(table([1], [0]).remove_columns("image"), place, "bare"))


def test_a_reader_that_could_do_more_than_read_is_not_let_near_the_files(place):
    (place / "shards").mkdir()
    (place / "shards" / "train.tar").write_bytes(b"")
    with pytest.raises(DataError, match="stored for the reader 'webdataset'"):
        load_dataset(f"hf:{place}/shards")
    (place / "script").mkdir()
    (place / "script" / "script.py").write_text("raise SystemExit('executed')")
    with pytest.raises(DataError, match="scripts are no longer supported"):
        load_dataset(f"hf:{place}/script")


def test_a_hostile_name_of_a_split_does_not_leave_the_folder(place):
    source = saved(datasets.DatasetDict({"train": table([1, 2], [0, 0])}), place)
    (place / "pets" / "dataset_dict.json").write_text(json.dumps({"splits": ["../pets/train"]}))
    with pytest.raises(DataError, match="is not the name of a split"):
        load_dataset(source)


def test_addresses_are_taken_apart_from_the_right(place):
    parts = Address("a/b", "small", ("train", "test"), {"label": "two words"})
    assert parse_address("hf:a/b:small@train+test?label=two%20words") == parts
    assert parse_address("hf:a/b") == Address("a/b", None, (), {})
    (place / "odd:na@me?x=1").mkdir()
    odd = f"{place}/odd:na@me?x=1"
    assert parse_address(f"hf:{odd}").location == odd
    for wrong in ("hf:", "hf:a/b?label", "hf:a/b?image=x&label="):
        with pytest.raises(UsageError, match="is not of the form hf:OWNER/NAME"):
            parse_address(wrong)
    with pytest.raises(UsageError, match=r"unknown column role 'lable'. Did you mean 'label'"):
        parse_address("hf:a/b?lable=x")
    assert parse_address("hf:" + "x" * 5000).location == "x" * 5000


def test_content_is_written_once_and_again_if_it_was_cut_short(tmp_path):
    path = stored(encoded(1, "JPEG"), tmp_path)
    assert path.suffix == ".jpg"
    before = path.stat()
    assert stored(encoded(1, "JPEG"), tmp_path) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    path.write_bytes(b"")
    assert stored(encoded(1, "JPEG"), tmp_path).read_bytes() == encoded(1, "JPEG")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_missing_extra_is_named(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'oodml\[hf\]'"):
        load_dataset("hf:nobody/nothing")
