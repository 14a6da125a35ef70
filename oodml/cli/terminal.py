"""What reaches a terminal: text in which no character gives the terminal an order."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

import click

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


def on_one_line(text: str) -> str:
    """`printable`, line feeds and tabs spelled out too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def json_text(value: Any) -> str:
    """Indented JSON in which the same characters stand as JSON's own escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return _ORDERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def echo(text: str = "", *, exact: bool = False, err: bool = False) -> None:
    """Print a text for people; an `exact` one as it is, unless it goes to a terminal."""
    as_it_is = exact and not sys.stdout.isatty()
    click.echo(text if as_it_is else printable(text), err=err)


class OneWay(logging.Formatter):
    """A log line for people, printable."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
