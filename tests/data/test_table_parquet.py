"""Parquet tables go through the checks of CSV tables and give the same datasets."""

import sys

import pytest
from PIL import Image

from oodml.data import load_dataset
from oodml.data.load import list_dataset
from oodml.errors import DataError

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

PATHS = ["ape/0.png", "ape/1.png", "zebra/0.png", "zebra/1.png"]
LABELS = ["ape", "ape", "zebra", "zebra"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for name in PATHS:
        (root / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(root / name)
    return root


def load(photos, tmp_path, columns, **options):
    table = tmp_path / "list.parquet"
    parquet.write_table(arrow.table(columns), table, **options)
    return load_dataset(table, root=photos)


def test_a_parquet_table_equals_the_csv_and_the_folder(photos, tmp_path):
    groups = ["primate", "primate", "horse", "horse"]
    columns = {"note": [1, 2, 3, 4], "group": groups, "path": PATHS, "label": LABELS}
    dataset = load(photos, tmp_path, columns, row_group_size=3)
    lines = (",".join(row) for row in zip(PATHS, LABELS, groups, strict=True))
    (tmp_path / "list.csv").write_text("path,label,group\n" + "\n".join(lines))
    other = load_dataset(tmp_path / "list.csv", root=photos)
    for field in ("class_names", "sample_names", "groups", "fingerprint"):
        assert getattr(dataset, field) == getattr(other, field), field
    assert dataset.groups == ("primate", "horse")
    assert dataset.fingerprint == load_dataset(photos).fingerprint
    assert dataset.source.endswith("list.parquet") and dataset.name == "list"


@pytest.mark.parametrize("kind", ["large_string", "dictionary"])
def test_text_is_read_however_it_is_stored(photos, tmp_path, kind):
    texts = [arrow.array(values) for values in (PATHS, LABELS)]
    stored = [
        each.dictionary_encode() if kind == "dictionary" else each.cast(arrow.large_string())
        for each in texts
    ]
    dataset = load(photos, tmp_path, dict(zip(("path", "label"), stored, strict=True)))
    assert dataset.class_names == ("ape", "zebra")


def test_labels_may_be_whole_numbers(photos, tmp_path):
    dataset = load(photos, tmp_path, {"path": PATHS, "label": [7, 7, 10, 10]})
    assert dataset.class_names == ("10", "7")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "has no column 'label'; its columns: 'path'"),
        ({"label": [0.5, 0.5, 1.0, 1.0]}, "the column 'label' holds double, and text or whole"),
        ({"label": [True] * 4}, "the column 'label' holds bool"),
        ({"label": [["a"]] * 4}, "the column 'label' holds list"),
        ({"path": [1, 2, 3, 4]}, "the column 'path' holds int64, and text are needed"),
        ({"path": [b"a"] * 4}, "the column 'path' holds binary"),
        ({"label": ["ape", None, "zebra", "zebra"]}, "row 2: the label is empty"),
        ({"path": [*PATHS[:3], " "]}, "row 4: the path is empty"),
        ({"path": [*PATHS[:3], PATHS[0]]}, "row 4: 'ape/0.png' is listed a second time"),
        ({"path": [*PATHS[:3], "gone.png"]}, "1 of 4 files do not exist.*'gone.png'"),
        ({"path": [*PATHS[:3], "a\0.png"]}, "1 of 4 files do not exist"),
        (
            {"group": ["x", "y", "z", "z"]},
            "row 2: class 'ape' is in group 'y' here and in group 'x",
        ),
        ({"label": ["ape"] * 3 + ["zebra"]}, "1 of 2 classes have fewer than 2"),
        (
            {"path": arrow.array([], arrow.string()), "label": arrow.array([], arrow.string())},
            "no im",
        ),
    ],
)
def test_bad_tables_are_one_line(photos, tmp_path, change, message):
    columns = {"path": PATHS, "label": LABELS} | change
    columns = {name: values for name, values in columns.items() if values is not None}
    with pytest.raises(DataError, match=message) as caught:
        load(photos, tmp_path, columns)
    assert str(caught.value).isprintable()


def test_damaged_files_are_one_line(photos, tmp_path):
    load(photos, tmp_path, {"path": PATHS, "label": LABELS})
    table = tmp_path / "list.parquet"
    whole = table.read_bytes()
    damages = [b"", b"path,label\n", whole[: len(whole) // 2], b"PAR1" + bytes(40) + b"PAR1"]
    damages += [
        whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] for at in range(0, len(whole), 3)
    ]
    for content in damages:
        table.write_bytes(content)
        try:
            load_dataset(table, root=photos)
        except DataError as error:
            assert str(error).isprintable(), error
    for content in damages[:4]:
        table.write_bytes(content)
        with pytest.raises(DataError, match=r"list\.parquet is not a readable Parquet file"):
            load_dataset(table, root=photos)


def test_every_fault_is_listed_where_none_is_refused(photos, tmp_path):
    table = tmp_path / "list.parquet"
    columns = {"path": [*PATHS, "gone.png"], "label": [*LABELS[:3], "", "ape"]}
    parquet.write_table(arrow.table(columns), table)
    dataset, refused = list_dataset(table, root=photos)
    assert len(dataset) == 4 and len(refused) == 3


def test_rows_are_counted_across_batches(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("oodml.data.table._BATCH", 2)
    columns = {"path": [*PATHS, "ape/2.png"], "label": [*LABELS, ""]}
    with pytest.raises(DataError, match="row 5: the label is empty"):
        load(photos, tmp_path, columns)
    assert len(load(photos, tmp_path, {"path": PATHS, "label": LABELS})) == 4


def test_the_first_fault_of_a_file_is_the_one_that_is_told(photos, tmp_path):
    groups = ["x", "y", "z", ""]
    with pytest.raises(DataError, match="row 2: class 'ape' is in group 'y' here"):
        load(photos, tmp_path, {"path": PATHS, "label": LABELS, "group": groups})
    with pytest.raises(DataError, match="row 1: the group is empty"):
        load(photos, tmp_path, {"path": PATHS, "label": LABELS, "group": ["", *groups[:3]]})


@pytest.mark.parametrize("kind", ["int8", "uint64", "large_string", "string"])
def test_labels_of_every_kind_read_as_python_writes_them(photos, tmp_path, kind):
    values = arrow.array(["7", "7", "120", "120"]).cast(kind)
    for labels in (values, values.dictionary_encode()):
        assert load(photos, tmp_path, {"path": PATHS, "label": labels}).class_names == ("120", "7")


def test_without_pyarrow_the_line_names_the_extra(photos, tmp_path, monkeypatch):
    (tmp_path / "list.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'oodml\[parquet\]', or give a CSV") as caught:
        load_dataset(tmp_path / "list.parquet", root=photos)
    assert "\n" not in str(caught.value)


def test_a_lost_table_is_said_to_be_lost(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there is no file or folder lost\.parquet"):
        load_dataset("lost.parquet")
