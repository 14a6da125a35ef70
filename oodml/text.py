"""Text without orders: no character of it moves a cursor, ends a line or turns the writing."""

from __future__ import annotations

import re

# Control characters but tab and line feed, separators that end lines, characters that turn the
# direction of writing (CVE-2021-42574), and bytes of file names that are not UTF-8.
_ORDERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""The text with every character that a terminal acts on spelled out, such as `\x1b`.

    Tabs and line feeds stay, and so do letters and emoji of every script.
    """
    return _ORDERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_json(text: str) -> str:
    r"""JSON text in which those characters stand as JSON's own escapes; its values are the same."""
    return _ORDERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
