"""CSV files as they come: from other programs, cut off, mislabelled, and very long."""

import csv
import hashlib
import logging
import os
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
        (ROWS + "x," * 600_000, "line 4: more fields than columns"),
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


@pytest.mark.parametrize("block", [1, 2, 3, 1 << 11])
def test_faults_have_their_lines_however_the_rows_are_cut(photos, tmp_path, monkeypatch, block):
    monkeypatch.setattr("oodml.data.table._FIRST", block)
    monkeypatch.setattr("oodml.data.table._BLOCK", block)
    table = tmp_path / "list.csv"
    table.write_text(
        "path,label,group\nape/0.png,ape,x\n\nape/1.png,ape,y\n,ape,x\n"
        '"ape/./0.png",ape,x\nzebra/0.png,"ze\nbra",z\ngone.png,newt,w\nlost.png,newt,w\n'
        "ape/2.png,a,b,c\nzebra/1.png,ape,y\nzebra/0.png,newt,w\n"
    )
    dataset, refused = list_dataset(table, root=photos)
    assert dataset.class_names == ("ape", "newt", r"ze\nbra")
    assert dataset.groups == ("x", "w", "z")
    assert dataset.sample_names == (
        "ape/0.png", "ape/1.png", "zebra/1.png", "gone.png", "lost.png", "zebra/0.png",
    )  # fmt: skip
    png = (photos / "ape/0.png").stat().st_size
    assert dataset.sizes.tolist() == [png, png, png, 0, 0, png]
    assert dataset.paths[5] == photos / "zebra/0.png"
    assert sorted(text.removeprefix(str(table)) for text in refused if "class 'ape'" in text) == [
        f", line {line}: class 'ape' is in group 'y' here and in group 'x' before. "
        "Give every class one group."
        for line in (12, 4)
    ]
    for words in (
        "line 5: the path is empty.",
        "line 6: 'ape/./0.png' is listed a second time.",
        "line 11: more fields than columns.",
        "line 13: 'zebra/0.png' is listed a second time.",
        "2 of 8 files do not exist under",
        "'gone.png', 'lost.png'. Correct",
    ):
        assert any(words in text for text in refused), words
    assert len(refused) == 8


def test_the_first_fault_of_a_file_is_the_one_that_is_told(photos, tmp_path):
    with pytest.raises(DataError, match="line 3: class 'a' is in group 'y' here"):
        load(photos, tmp_path, "path,label,group\nape/0.png,a,x\nape/1.png,a,y\n,a,x\n")
    with pytest.raises(DataError, match="line 2: the path is empty"):
        load(photos, tmp_path, "path,label,group\n,a,x\nape/0.png,a,x\nape/1.png,a,y\n,a,x\n")


def test_the_line_before_a_wrong_byte_is_named_in_a_long_file(photos, tmp_path):
    rows = "ape/0.png,ape\n" * 40_000
    with pytest.raises(DataError, match=r"after line 40001: the byte 0xe4 is not UTF-8"):
        load(photos, tmp_path, b"path,label\n" + rows.encode() + b"ape/\xe4.png,ape\n" + b"x\n" * 9)


def test_paths_written_otherwise_than_names_lead_to_their_files(photos, tmp_path):
    text = "path,label\nape/0.png,a\nape/./1.png,a\nzebra//0.png,a\nzebra/1.png,a\n"
    dataset = load(photos, tmp_path, text)
    assert dataset.sample_names == ("ape/0.png", "ape/1.png", "zebra/0.png", "zebra/1.png")
    assert [path.resolve() for path in dataset.paths] == [
        (photos / name).resolve() for name in dataset.sample_names
    ]


def test_files_are_asked_for_side_by_side(tmp_path, monkeypatch):
    """On a disk that answers after a millisecond, as another machine's does."""
    table = long_table(tmp_path, 4000)
    waiting, most = [], []

    def slow(place, **options):
        waiting.append(place)
        most.append(len(waiting))
        time.sleep(0.001)
        waiting.remove(place)
        return stat(place, **options)

    stat = os.stat
    monkeypatch.setattr("oodml.data.table.os.stat", slow)
    dataset = load_dataset(table)
    monkeypatch.undo()
    assert max(most) > 4
    assert dataset.sizes.tolist() == [path.stat().st_size for path in dataset.paths]


def test_a_wrong_root_is_told_after_a_thousand_rows(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("path,label\n" + "".join(f"{n}.png,a\n" for n in range(1200)))
    with pytest.raises(
        DataError, match=r"1000 of the first 1000 files do not exist under .* 995 mo"
    ):
        load_dataset(table)
    _, refused = list_dataset(table)
    told = "'0.png', '1.png', '2.png', '3.png', '4.png' and 1195 more. Correct"
    assert len(refused) == 2 and told in refused[1]


def test_a_class_that_comes_after_a_class_with_two_groups_has_its_own(photos, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(
        "path,label,group\nape/0.png,a,x\nape/1.png,a,y\nzebra/0.png,b,z\nzebra/1.png,b,z\n"
    )
    dataset, refused = list_dataset(table, root=photos)
    assert dataset.groups == ("x", "z") and len(refused) == 1


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
def test_a_row_takes_less_than_180_bytes_at_the_peak(tmp_path):
    table = long_table(tmp_path, 300_000)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(table)], capture_output=True, text=True, check=True
    )
    rows, grown = map(int, done.stdout.split())
    print(f"{grown / rows:.0f} bytes a row, {time.monotonic() - start:.0f} s")
    assert rows == 300_000 and grown / rows < 180


def test_progress_is_shown_on_request_alone(photos, tmp_path, capsys, monkeypatch):
    table = tmp_path / "list.csv"
    table.write_text(ROWS)
    load_dataset(table, root=photos)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("oodml.data.table._PATIENCE", 0)
    monkeypatch.setattr("oodml.progress.SECONDS", 0)
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
