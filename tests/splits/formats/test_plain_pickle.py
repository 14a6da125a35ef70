"""Plain pickles are read as pickle reads them; hostile ones are refused and run nothing."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import published_layout

from oodml.errors import DataError
from oodml.splits.formats.plain_pickle import read_plain_pickle


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("scalars", [True, False])
def test_plain_pickles_read_as_pickle_reads_them(protocol: int, scalars: bool) -> None:
    content = published_layout(scalars=scalars)
    read = read_plain_pickle(pickle.dumps(content, protocol=protocol))
    assert read == content
    assert type(read[1]["train"][0]) is str and type(read[1]["fid"]) is float


class Call:
    """An object that a naive reader would call `function` for."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


HOSTILE = {
    "os.system": lambda mark: pickle.dumps({1: Call(os.system, f"touch {mark}")}),
    "eval": lambda mark: pickle.dumps([Call(eval, f"open({str(mark)!r}, 'w')")], protocol=0),
    "exec in a value": lambda mark: pickle.dumps(
        {1: {**published_layout()[1], "fid": Call(exec, f"open({str(mark)!r}, 'w')")}}
    ),
    "getattr": lambda mark: pickle.dumps(Call(getattr, Call(__import__, "os"), "system")),
    "numpy load": lambda mark: pickle.dumps(Call(np.load, str(mark), None, True)),
    "object array": lambda mark: pickle.dumps(np.array([{}, 1], dtype=object)),
    "inst opcode": lambda mark: f"(Vtouch {mark}\nios\nsystem\n.".encode(),
    "obj opcode": lambda mark: f"(cos\nsystem\nS'touch {mark}'\no.".encode(),
    "newobj": lambda mark: b"\x80\x02cnumpy\ndtype\n)\x81.",
    "dotted name": lambda mark: b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "name from the memo": lambda mark: (
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x04true\x85R."
    ),
    "persistent id": lambda mark: b"Pabc\n.",
    "extension": lambda mark: b"\x80\x02\x82\x01.",
    "build of a dict": lambda mark: b"\x80\x02}}(X\x01\x00\x00\x00aK\x01ub.",
    "build of a name": lambda mark: b"\x80\x02cnumpy\ndtype\n}b.",
    "call of a string": lambda mark: b"\x80\x02X\x02\x00\x00\x00os)R.",
    "call of a scalar type": lambda mark: b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R)R.",
    "codecs to run": lambda mark: b"\x80\x02c_codecs\ndecode\nX\x01\x00\x00\x00a\x85R.",
    "object scalar": lambda mark: (
        b"\x80\x03cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R"
        b"C\x02N.\x86R."
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_before_they_run(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(DataError, match="refused before anything in it ran"):
        read_plain_pickle(HOSTILE[name](mark))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "instruction"),
    [
        ("inst opcode", "INST"),
        ("newobj", "NEWOBJ"),
        ("persistent id", "PERSID"),
        ("extension", "EXT1"),
    ],
)
def test_instructions_that_run_code_are_named(name: str, instruction: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"the instruction {instruction}, which may run code"):
        read_plain_pickle(HOSTILE[name](tmp_path / "mark"))


def test_the_hostile_pickles_would_run_elsewhere(tmp_path: Path) -> None:
    for name in ("os.system", "eval", "inst opcode", "exec in a value"):
        mark = tmp_path / name.replace(" ", "-").replace(".", "-")
        pickle.loads(HOSTILE[name](mark))
        assert mark.exists(), name


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02r\xff\xff\xff\x7f.",  # a memo index of 2**31
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",  # bytes of a terabyte
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",  # an integer of 2 GiB
        b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",  # a frame of an exabyte
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"a.",
        b"\x80\x03cnumpy\ndtype\nX\x0b\x00\x00\x00U2000000000\x85R.",
    ],
)
def test_giant_lengths_take_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        value = read_plain_pickle(data)
    except DataError:
        value = None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert not isinstance(value, dict)
