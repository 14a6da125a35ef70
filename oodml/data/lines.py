"""The lines of a UTF-8 text file of any length, none of them longer than memory allows."""

from __future__ import annotations

import csv
from codecs import getincrementaldecoder
from collections.abc import Iterator
from io import StringIO
from itertools import chain
from typing import IO

# Bytes at a time.
_CHUNK = 1 << 18
# A line without an end would be read into memory whole.
LONGEST_LINE = 1 << 20


def lines_of(file: IO[bytes]) -> Iterator[str]:
    r"""The lines with their ends, which are `\n`, `\r\n` or `\r`; a byte order mark is passed over.

    Raises `csv.Error` at a line of more than `LONGEST_LINE` characters and `UnicodeDecodeError` at
    bytes that are not UTF-8, each after all lines before it.
    """
    # No code of Python runs for a single line.
    return chain.from_iterable(_whole_lines(_decoded(file)))


def _decoded(file: IO[bytes]) -> Iterator[str]:
    decoder = getincrementaldecoder("utf-8-sig")()
    data = b"-"
    while data:
        data = file.read(_CHUNK)
        try:
            text = decoder.decode(data, not data)
        except UnicodeDecodeError as error:
            yield error.object[: error.start].decode()
            raise
        yield text


def _whole_lines(texts: Iterator[str]) -> Iterator[StringIO]:
    rest = ""
    for text in texts:
        rest += text
        # What follows a \r at the very end tells whether it is a line's end or half of one.
        end = 1 + max(rest.rfind("\n"), rest.rfind("\r", 0, -1))
        yield StringIO(rest[:end], newline="")
        rest = rest[end:]
        if len(rest) >= LONGEST_LINE:
            raise csv.Error(f"a line of more than {LONGEST_LINE:,} characters")
    yield StringIO(rest, newline="")
