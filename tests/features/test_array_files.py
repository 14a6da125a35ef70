"""Arrays in files that lie about them: refused before they cost memory, never unpickled."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oodml.features.array_files
from oodml.errors import DataError
from oodml.features.array_files import read_npy, read_npz


def packed(members: dict[str, bytes], way: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", way) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def saved(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def headed(text: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + content


def described(kind: str, shape: str, content: bytes = b"") -> bytes:
    return headed(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n", content)


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2", ">i2", "<u8", "<U3", "|b1"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_as_numpy_reads_them(kind: str, shape: tuple[int, ...], order: str) -> None:
    array = np.asarray(np.ones(shape).astype(kind), order=order)  # type: ignore[call-overload]
    for way in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        found = read_npz(io.BytesIO(packed({"a": saved(array)}, way)))["a"]
        assert found.dtype == array.dtype and np.array_equal(found, array)
    assert np.array_equal(read_npy(io.BytesIO(saved(array)), len(saved(array))), array)


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_object_arrays_are_refused_and_run_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    array = np.array([Payload(marker)], dtype=object)
    content = saved(array, allow_pickle=True)
    for read in (
        lambda: read_npz(io.BytesIO(packed({"a": content}))),
        lambda: read_npy(io.BytesIO(content), len(content)),
    ):
        with pytest.raises(DataError, match="holds object, and not numbers"):
            read()
    assert not marker.exists()
    np.load(io.BytesIO(content), allow_pickle=True)
    assert marker.exists(), "the payload would run elsewhere"


def test_an_archive_that_grows_two_hundredfold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = packed({"a": saved(np.zeros(1 << 20, np.float32))}, zipfile.ZIP_DEFLATED)
    assert not read_npz(io.BytesIO(zeros))["a"].any(), "small ones may grow as they like"
    monkeypatch.setattr(oodml.features.array_files, "_HARMLESS", 1 << 20)
    with pytest.raises(DataError, match=r"unpacks from .* more than 200 times"):
        read_npz(io.BytesIO(zeros))


def test_an_archive_that_lies_about_its_sizes_takes_no_memory() -> None:
    huge = 0xFFFF_FF00
    small = described("'<f4'", f"({(huge - 80) // 4},)".ljust(13))
    data = bytearray(packed({"a": small}))
    entry = data.index(b"PK\x01\x02")
    struct.pack_into("<II", data, entry + 20, huge, huge)
    with pytest.raises(DataError, match="more than 200 times"):
        read_npz(io.BytesIO(bytes(data)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (described("'<f4'", "(1000000000000,)"), "has the shape (1000000000000,)"),
        (described("'<f4'", f"({10**30}, 0)"), "OverflowError"),
        (described("'<U99999999'", "()"), "has the shape ()"),
        (described("'<U0'", "(1000000000000,)"), "and not numbers or text"),
        (described("'<f4'", "(-1, -1)", b"abcd"), "has the shape (-1, -1)"),
        (described("'<M8[D]'", "(1,)", b"abcdefgh"), "and not numbers or text"),
        (described("[('a', '<f4')]", "(1,)", b"abcd"), "and not numbers or text"),
        (headed("((((((((((((((" * 100), "Error"),
        (headed("{'descr': '''"), "Error"),
        (headed("-" * 9000 + "1"), "Error"),
        (headed("1" * 30_000), "large and may not be safe"),
        (saved(np.eye(3))[:-1], "has the shape (3, 3)"),
        (saved(np.eye(3)) + b"x", "has the shape (3, 3)"),
        (b"\x93NUMPY\x03\x00" + bytes(80), "the format (3, 0)"),
        (b"", "ValueError"),
        (b"not an array", "ValueError"),
    ],
    ids=range(16),
)
def test_a_header_is_believed_only_as_far_as_its_bytes_go(content: bytes, words: str) -> None:
    for read in (
        lambda: read_npz(io.BytesIO(packed({"a": content}))),
        lambda: read_npy(io.BytesIO(content), len(content)),
    ):
        with pytest.raises(DataError) as error:
            read()
        assert words in str(error.value) and "\n" not in str(error.value)


def test_missing_arrays_and_damaged_archives_are_named() -> None:
    whole = packed({"a": saved(np.arange(100.0))})
    with pytest.raises(DataError, match="holds no array 'b'"):
        read_npz(io.BytesIO(whole), ["a", "b"])
    with pytest.raises(FileNotFoundError):
        read_npz("absent.npz")
    for at in range(0, len(whole), 7):
        with pytest.raises(DataError):
            read_npz(io.BytesIO(whole[:at]), ["a"])
    flipped = bytearray(whole)
    flipped[whole.index(b"\n") + 50] ^= 1
    with pytest.raises(DataError, match="CRC"):
        read_npz(io.BytesIO(bytes(flipped)))


def test_an_encrypted_archive_is_refused() -> None:
    data = bytearray(packed({"a": saved(np.eye(2))}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    with pytest.raises(DataError, match="encrypted"):
        read_npz(io.BytesIO(bytes(data)))
