"""Text that can be printed, stored and compared anywhere: escapes, names, short lists of names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TypeVar

from oodml.errors import UsageError

Number = TypeVar("Number", int, float)

# Control characters but tab and line feed, separators that end lines, characters that turn the
# direction of writing (CVE-2021-42574), and bytes of file names that are not UTF-8.
_ORDERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Control characters, bytes that are not UTF-8 (surrogates), line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""The text with every character that a terminal acts on spelled out, such as `\x1b`.

    Tabs and line feeds stay, and so do letters and emoji of every script.
    """
    return _ORDERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_json(text: str) -> str:
    r"""JSON text in which those characters stand as JSON's own escapes; its values are the same."""
    return _ORDERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_text(name: str) -> str:
    r"""The name as printable text of any script, in Unicode's composed form (NFC).

    The two ways to write an accent give one name. A line break reads `\n`, a byte that is not
    UTF-8 reads `\xff`, so a name is always one line and valid UTF-8.
    """
    if name.isascii() and name.isprintable():
        return name
    composed = unicodedata.normalize("NFC", _from_utf8(name))
    return composed if composed.isprintable() else "".join(map(_escaped, composed))


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first names, quoted, and how many more there are: `'a', 'b' and 7 more`."""
    shown = ", ".join(map(quoted, names[:most]))
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown


def quoted(name: str, most: int = 300) -> str:
    """The name as Python would write it, its end left out if it is very long."""
    return repr(name if len(name) <= most else f"{name[:most]}...")


def positive_numbers(text: str, kind: type[Number], what: str) -> list[Number]:
    """The numbers above 0 of a text such as "3-5-8"; `UsageError`, naming `what`, for another."""
    try:
        numbers = [kind(part) for part in text.split("-")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        example = "3-5-8" if kind is int else "0.8-1-1.25"
        raise UsageError(f"{what}={text!r}: write numbers above 0 as {example}.")
    return numbers


def _from_utf8(name: str) -> str:
    """The name where a locale without UTF-8 left Python the bytes of one."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # halves of characters, which no file name has
        return name


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
