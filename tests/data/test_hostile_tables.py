"""CSV files as they come: from other programs, cut off, mislabelled, and very long."""

import csv
import hashlib
import logging
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oodml.data import load_dataset
from oodml.data.listing import repeated
from oodml.data.load import list_dataset
from oodml.errors import DataError, OodmlError

ROWS = "path,label\nape/0.png,ape\nape/1.png,ape\n"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for each in ("ape", "zebra"):
        (root / each).mkdir()
        for number in range(2):
            Image.new("RGB", (2, 2)).save(root / each / f"{number}.png")
    return root


def load(photos, tmp_path, content, suffix=".csv"):
    table = tmp_path / f"list{suffix}"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_dataset(table, root=photos)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + ROWS.encode(),
        ROWS.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode(),
        ROWS.replace("\n", "\r"),
        ROWS.rstrip("\n"),
        ROWS.replace("\n", "\n\n"),
        "path , label\nape/0.png , ape \n ape/1.png,ape",
        'note,"label","path"\n"a, b\nc",ape,"ape/0.png"\n,ape,ape/1.png\n',
    ],
)
def test_the_ways_programs_write_csv_give_one_dataset(photos, tmp_path, content):
    dataset = load(photos, tmp_path, content)
    assert dataset.class_names == ("ape",)
    assert dataset.sample_names == ("ape/0.png", "ape/1.png")
    assert dataset.sizes.tolist() == [
        (photos / name).stat().st_size for name in dataset.sample_names
    ]
    assert dataset[1][0].size == (2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ROWS.replace(",", ";"), "Its columns are separated by semicolons; save it with commas"),
        (ROWS.replace(",", "\t"), "separated by tabs; save it with commas"),
        ("path,label,path\na,b,c\n", "two columns named 'path'"),
        (ROWS.encode("utf-16"), "it holds NUL bytes, as UTF-16 does. Save it as 'CSV UTF-8'"),
        (ROWS.encode("utf-16-le"), "it holds NUL bytes, as UTF-16 does"),
        (ROWS.encode("utf-32"), "it holds NUL bytes"),
        (
            ROWS.replace("ape\n", "äpe\n").encode("latin-1"),
            "the byte 0xe4 is not UTF-8; save it as",
        ),
        (
            ROWS + "x" * 200_000 + ",ape\n",
            r"after line 3: field larger than field limit \(131072\)",
        ),
        (ROWS + '"zebra/0.png,zebra\n' + "x\n" * 70_000, "is a quote left open"),
        (ROWS + '"a"b,c\n', "after line 3: .*is a quote left open"),
        (ROWS + "x," * 600_000, "a line of more than 1,048,576 characters"),
        (ROWS + "\n" * 999 + "zebra/0.png\0,zebra\n", "1 of 3 files do not exist.*x00"),
        (ROWS + "," * 1000 + "\n", "line 4: more fields than columns"),
        (ROWS + "  ,zebra\n", "line 4: the path is empty"),
        (ROWS + "../../etc/none,zebra\n", "1 of 3 files do not exist.*'../../etc/none'"),
        (ROWS + "/dev/zero,zebra\n/dev/null,zebra\n", "2 of 4 files do not exist"),
        (ROWS + f"{'n' * 5000},zebra\n", "1 of 3 files do not exist.*nnn\\.\\.\\.'"),
        (ROWS + "ape//0.png,zebra\n", "line 4: 'ape//0.png' is listed a second time"),
        (ROWS + "zebra/../ape/0.png,zebra\n", "line 4: 'zebra/../ape/0.png' is listed a second"),
        (b"", "no column 'path' and no column 'label'; its columns: none"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not a readable UTF-8 CSV"),
        (b"<!DOCTYPE html><html>", "no column 'path'"),
        ("x" * 100_000, "no column 'path'"),
    ],
)
def test_bad_tables_are_one_short_line(photos, tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        load(photos, tmp_path, content)
    text = str(caught.value)
    assert text.isprintable() and len(text) < 1500


def test_labels_of_any_script_are_classes(photos, tmp_path):
    names = ("日本語", "עברית", "हिन्दी", "a\nb", "../../etc", "<script>", "=1+1", "é" * 300)
    for name in names:
        quoted = f'"{name}"'
        dataset = load(photos, tmp_path, f"path,label\nape/0.png,{quoted}\nape/1.png,{quoted}\n")
        assert dataset.class_names == (name.replace("\n", r"\n"),)


def test_two_ways_to_write_an_accent_are_one_class_said_aloud(photos, tmp_path, caplog):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    text = f"path,label,group\nape/0.png,{composed},x\nape/1.png,{apart},x\n"
    with caplog.at_level(logging.WARNING, "oodml"):
        dataset = load(photos, tmp_path, text)
    assert dataset.class_names == (composed,) and dataset.groups == ("x",)
    assert "1 class names are written in several ways" in caplog.text
    with pytest.raises(
        DataError, match="class 'café' is in group 'y' here and in group 'x' before"
    ):
        load(photos, tmp_path, text[:-2] + "y\n")


def test_absolute_paths_and_links_are_read_where_they_point(photos, tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    Image.new("RGB", (5, 5)).save(tmp_path / "elsewhere" / "up.png")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "deep")
    table = tmp_path / "list.csv"
    table.write_text(f"path,label\n../up.png,x\n{photos}/ape/0.png,x\n")
    dataset = load_dataset(table, root=link)
    assert {dataset[row][0].size for row in range(2)} == {(5, 5), (2, 2)}


def test_every_fault_is_listed_where_none_is_refused(photos, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(ROWS + "ape/0.png,ape\nzebra/0.png,\ngone.png,zebra\nzebra/1.png,zebra\n")
    dataset, refused = list_dataset(table, root=photos)
    assert dataset.sample_names == ("ape/0.png", "ape/1.png", "gone.png", "zebra/1.png")
    assert dataset.sizes[2] == 0
    assert len(refused) == 3
    for part in ("line 4: 'ape/0.png' is listed", "line 5: the label", "1 of 5 files do not exist"):
        assert any(part in text for text in refused), part


def test_a_wrong_root_is_told_after_a_thousand_rows(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("path,label\n" + "".join(f"{n}.png,a\n" for n in range(1200)))
    with pytest.raises(
        DataError, match=r"1000 of the first 1000 files do not exist under .* 995 mo"
    ):
        load_dataset(table)


def test_repeated_names():
    assert repeated(["a", "b", "a", "c", "b", "a"]) == [2, 4, 5]
    assert repeated([]) == [] == repeated(["x", "y"])


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_a_dataset_or_one_line(tmp_path_factory, content):
    table = tmp_path_factory.getbasetemp() / "bytes.csv"
    for start in (b"", b"path,label\n", b"path,label,group\nbytes.csv,a,b\n"):
        table.write_bytes(start + content)
        try:
            load_dataset(table)
        except OodmlError as error:
            assert str(error).isprintable()


def long_table(folder, count):
    """A CSV of distinct paths, a thousand a folder; the folders are links to a single one."""
    (folder / "real").mkdir()
    for number in range(1000):
        (folder / "real" / f"{number:03d}.png").write_bytes(b"x" * (number + 1))
    for number in range(-(-count // 1000)):
        (folder / f"d{number:05d}").symlink_to("real")
    table = folder / "list.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        writer.writerows(
            (f"d{row // 1000:05d}/{row % 1000:03d}.png", f"class {row * 7919 % 997:03d}")
            for row in reversed(range(count))
        )
    return table


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_long_table_has_the_rows_and_the_order_of_a_sorted_one(tmp_path, count):
    table = long_table(tmp_path, count)
    dataset = load_dataset(table)
    assert len(dataset) == count and len(dataset.class_names) == 997
    keys = [
        (
            f"class {row * 7919 % 997:03d}",
            f"d{row // 1000:05d}/{row % 1000:03d}.png",
            row % 1000 + 1,
        )
        for row in range(count)
    ]
    keys.sort()
    classes = [dataset.class_names[label] for label in dataset.labels]
    got = zip(classes, dataset.sample_names, dataset.sizes.tolist(), strict=True)
    assert list(got) == keys
    assert dataset.paths[count - 1] == tmp_path / keys[-1][1]


PEAK = """
import sys
from oodml.data import load_dataset
def high_water():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = high_water()
dataset = load_dataset(sys.argv[1])
dataset.fingerprint
print(len(dataset), (high_water() - before) * 1024)
"""


@pytest.mark.long
def test_a_row_takes_less_than_250_bytes_at_the_peak(tmp_path):
    table = long_table(tmp_path, 300_000)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(table)], capture_output=True, text=True, check=True
    )
    rows, grown = map(int, done.stdout.split())
    print(f"{grown / rows:.0f} bytes a row, {time.monotonic() - start:.0f} s")
    assert rows == 300_000 and grown / rows < 250


def test_progress_is_shown_on_request_alone(photos, tmp_path, capsys, monkeypatch):
    table = tmp_path / "list.csv"
    table.write_text(ROWS)
    load_dataset(table, root=photos)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("oodml.data.table._PATIENCE", 0)
    load_dataset(table, root=photos, progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "list:" in shown.err and "row" in shown.err


def test_the_fingerprint_does_not_depend_on_the_order_of_rows(photos, tmp_path):
    lines = [f"{kind}/{number}.png,{kind}" for kind in ("ape", "zebra") for number in (0, 1)]
    prints = {
        load(
            photos,
            tmp_path,
            "path,label\n" + "\n".join(np.random.default_rng(seed).permutation(lines)),
        ).fingerprint
        for seed in range(5)
    }
    assert prints == {load_dataset(photos).fingerprint}


def test_the_fingerprint_is_the_hash_of_the_sorted_lines(photos):
    dataset = load_dataset(photos)
    lines = sorted(
        f"{name.split('/')[0]}\0{name}\0{size}"
        for name, size in zip(dataset.sample_names, dataset.sizes, strict=True)
    )
    assert dataset.fingerprint == hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
