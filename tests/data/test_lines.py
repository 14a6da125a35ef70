"""Lines of text, however the bytes are cut, are those that Python's own reader gives."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodml.data import lines
from oodml.data.lines import LONGEST_LINE, lines_of

PIECES = ["a", "é", "日", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\ufeff"]


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.integers(1, 9), st.booleans())
@settings(max_examples=300, deadline=None)
def test_lines_are_those_of_pythons_reader_for_every_size_of_chunk(pieces, chunk, marked):
    content = "".join(pieces).encode("utf-8-sig" if marked else "utf-8")
    expected = list(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline=""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_CHUNK", chunk)
        assert list(lines_of(io.BytesIO(content))) == expected


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("wrong", [b"\xe9", b"\xe6\x97", b"\xff\xff"])
def test_a_wrong_byte_is_met_after_all_lines_before_it(end, wrong, monkeypatch):
    monkeypatch.setattr(lines, "_CHUNK", 7)
    found = []
    with pytest.raises(UnicodeDecodeError):
        for line in lines_of(io.BytesIO(f"one{end}two{end}thr".encode() + wrong)):
            found.append(line)
    assert "".join(found) in (f"one{end}two{end}", f"one{end}two{end}thr")


def test_a_line_without_an_end_is_not_read_into_memory():
    file = io.BytesIO(b"x" * 4 * LONGEST_LINE)
    with pytest.raises(csv.Error, match="a line of more than 1,048,576 characters"):
        list(lines_of(file))
    assert file.tell() <= 2 * LONGEST_LINE
