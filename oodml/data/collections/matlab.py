"""One variable of a MATLAB file, read in Python alone.

SciPy's reader is compiled code, and a damaged file can crash it and the whole process with it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from oodml.errors import DataError

Value = TypeVar("Value")
_FAILURES = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    struct.error,
    zlib.error,
)
# Tables 1-1 and 1-3 of MathWorks' "MAT-File Format".
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_TEXTS = {1: "latin-1", 2: "latin-1", 16: "utf-8", 4: "utf-16", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_DEEPEST = 8
_LARGEST = 1 << 28  # bytes; the largest list of cars is 2 MB


@dataclass
class _Reader:
    """The elements of a piece of a file, one after the other."""

    data: memoryview
    order: str
    at: int = 0

    def next(self) -> tuple[int, memoryview]:
        """The type and the bytes of the next element."""
        (word,) = struct.unpack_from(self.order + "I", self.data, self.at)
        kind, size, start = word & 0xFFFF, word >> 16, self.at + 4
        end = self.at + 8
        if not size:
            kind, size = struct.unpack_from(self.order + "II", self.data, self.at)
            start = self.at + 8
            # Every element but a compressed one is padded to eight bytes.
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(self.data) or (start == self.at + 4 and size > 4):
            raise ValueError("an element ends behind the file")
        self.at = end
        return kind, self.data[start : start + size]

    def inside(self, data: memoryview) -> _Reader:
        return _Reader(data, self.order)


def read_mat(path: Path, variable: str, parse: Callable[[Any], Value]) -> list[Value]:
    """What `parse` makes of each element of a variable, in MATLAB's order, column after column.

    An element is a number, the content of a cell, or a dict of fields; text is a `str`, a single
    number in a cell or field that number. Raises `DataError` if the file cannot be read, is of
    version 4 or 7.3 (HDF5), lacks the variable, or `parse` fails.
    """
    try:
        for name, value in _variables(path.read_bytes()):
            if name == variable:
                return [parse(each) for each in (value if isinstance(value, list) else [value])]
        raise ValueError("it is not there")
    except _FAILURES as error:
        raise DataError(f"{path} has no readable variable {variable!r} ({error}).") from None


def _variables(data: bytes) -> Iterator[tuple[str, Any]]:
    # The version, 1, and the letters MI, as the machine that wrote the file stores them.
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(data[124:128])
    if order is None:
        raise ValueError("it is not of version 5 to 7")
    reader = _Reader(memoryview(data)[128:], order)
    while reader.at < len(reader.data):
        kind, content = reader.next()
        if kind == _COMPRESSED:
            kind, content = reader.inside(_decompressed(content)).next()
        if kind == _MATRIX:
            yield _matrix(reader.inside(content), 0)


def _decompressed(content: memoryview) -> memoryview:
    inflate = zlib.decompressobj()
    data = inflate.decompress(content, _LARGEST)
    if inflate.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {_LARGEST:,} bytes")
    return memoryview(data)


def _matrix(reader: _Reader, depth: int) -> tuple[str, Any]:
    if not len(reader.data):
        return "", []
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    flags = struct.unpack_from(reader.order + "I", reader.next()[1])[0]
    shape = _numbers(reader)
    name = _text(reader)
    count = math.prod(shape)
    if min(shape, default=-1) < 0:
        raise ValueError("an array has no shape")
    return name, _content(reader, flags & 0xFF, count, depth)


def _content(reader: _Reader, kind: int, count: int, depth: int) -> Any:
    if kind == _CHAR:
        return _text(reader)
    if kind == _CELL:
        return _matrices(reader, count, depth)
    if kind == _STRUCT:
        return _structs(reader, count, depth)
    if kind in _NUMERIC:
        numbers = _numbers(reader) if count else []
        if len(numbers) != count:
            raise ValueError("an array has not as many numbers as its shape says")
        return numbers[0] if count == 1 else numbers
    raise ValueError(f"it has an array of kind {kind}")


def _matrices(reader: _Reader, count: int, depth: int) -> list[Any]:
    # Each takes eight bytes at least, so a count too large for the file is found out soon.
    values = []
    for _ in range(count):
        kind, content = reader.next()
        if kind != _MATRIX:
            raise ValueError("a cell or field holds no array")
        values.append(_matrix(reader.inside(content), depth + 1)[1])
    return values


def _structs(reader: _Reader, count: int, depth: int) -> list[dict[str, Any]]:
    (length,) = _numbers(reader)
    names = bytes(reader.next()[1])
    if length < 1:
        raise ValueError("a struct has fields without names")
    fields = [
        names[i : i + length].split(b"\0")[0].decode("latin-1")
        for i in range(0, len(names), length)
    ]
    if not fields and count:
        raise ValueError("a struct has no fields")
    return [
        dict(zip(fields, _matrices(reader, len(fields), depth), strict=True)) for _ in range(count)
    ]


def _numbers(reader: _Reader) -> list[Any]:
    kind, content = reader.next()
    return list(np.frombuffer(content, reader.order + _NUMBERS[kind]).tolist())


def _text(reader: _Reader) -> str:
    kind, content = reader.next()
    encoding = _TEXTS[kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if reader.order == "<" else "-be"
    return bytes(content).decode(encoding)
