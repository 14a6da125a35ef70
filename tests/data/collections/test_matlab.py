from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from oodml.data.collections import matlab
from oodml.data.collections.matlab import read_mat
from oodml.errors import DataError

HEAD = bytes(125) + b"\1IM"


def cells(*values: Any) -> Any:
    array = np.empty((1, len(values)), object)
    array[0] = values
    return array


def written(path: Path, compressed: bool = False, **variables: Any) -> Path:
    savemat(path, variables, do_compression=compressed)
    return path


def read(path: Path, variable: str = "x") -> list[Any]:
    return read_mat(path, variable, lambda element: element)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u4", "i8", "u8", "f4", "f8", "?"])
def test_numbers_are_those_that_scipy_reads(tmp_path: Path, dtype: str, compressed: bool) -> None:
    values = np.random.default_rng(3).integers(0, 100, (5, 7)).astype(dtype)
    path = written(tmp_path / "x.mat", compressed, first=np.zeros(3), x=values)
    assert read(path) == loadmat(path)["x"].reshape(-1, order="F").tolist()


@pytest.mark.parametrize("compressed", [False, True])
def test_cells_and_structs_are_read_with_their_text(tmp_path: Path, compressed: bool) -> None:
    records = np.array([[(1.5, "car_ims/000001.jpg", 14), (2.0, "é ü", 3)]],
                       [("bbox_x1", object), ("fname", object), ("class", object)])  # fmt: skip
    names = cells("AM General Hummer SUV 2000", "日本", "a")
    path = written(tmp_path / "x.mat", compressed, x=records, names=names, one="text", none=[])
    assert read(path) == [
        {"bbox_x1": 1.5, "fname": "car_ims/000001.jpg", "class": 14},
        {"bbox_x1": 2.0, "fname": "é ü", "class": 3},
    ]
    assert read(path, "names") == ["AM General Hummer SUV 2000", "日本", "a"]
    assert read(path, "one") == ["text"]
    assert read(path, "none") == []


def big_endian(shape: tuple[int, int]) -> bytes:
    """A file with the two numbers 1.25 and -3 in an array x of that shape."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    parts = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", *shape))
    parts += struct.pack(">HH4s", 1, 1, b"x") + element(9, struct.pack(">2d", 1.25, -3))
    return b"MATLAB 5.0".ljust(124) + b"\1\0MI" + element(14, parts)


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(big_endian((1, 2)))
    assert read(path) == [1.25, -3.0] == loadmat(path)["x"].reshape(-1).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not of version 5 to 7"),
        (big_endian((1, 3)), "not as many numbers as its shape says"),
        (big_endian((-1, -2)), "an array has no shape"),
        (bytes(125) + b"\2IM", "not of version 5 to 7"),
        (HEAD, "it is not there"),
        (HEAD + struct.pack("<II", 14, 99), "ends behind the file"),
        (HEAD + struct.pack("<II", 15, 3) + b"abc", "incorrect header check"),
    ],
)
def test_what_is_no_such_file_gets_one_clear_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"has no readable variable 'x' .*{message}"):
        read(path)


def test_a_bomb_and_a_nest_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "_LARGEST", 1 << 20)
    path = tmp_path / "x.mat"
    bomb = zlib.compress(bytes(1 << 20) + b"more")
    path.write_bytes(HEAD + struct.pack("<II", 15, len(bomb)) + bomb)
    with pytest.raises(DataError, match="unpacks to more than 1,048,576 bytes"):
        read(path)
    nest: Any = "egg"
    for _ in range(9):
        nest = cells(nest)
    with pytest.raises(DataError, match="nested too deeply"):
        read(written(path, x=nest))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = np.array([[(1.5, "a.jpg")]], [("class", object), ("fname", object)])
    path = tmp_path_factory.mktemp("mat") / "whole.mat"
    return written(path, y=cells("a", "bc"), x=records)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_is_one_error_or_harmless(whole: Path, data: st.DataObject) -> None:
    path = whole.with_name("damaged.mat")
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(128, len(content)))])
    try:
        read(path)
    except DataError as error:
        assert "\n" not in str(error)
