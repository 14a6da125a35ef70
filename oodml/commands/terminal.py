"""What reaches a terminal: text in which no character gives the terminal an order."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import click

from oodml.text import printable, printable_json


def on_one_line(text: str) -> str:
    """`printable`, line feeds and tabs spelled out too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def json_text(value: Any) -> str:
    """Indented JSON in which the same characters stand as JSON's own escapes."""
    return printable_json(json.dumps(value, ensure_ascii=False, indent=2))


def echo(text: str = "", *, exact: bool = False, err: bool = False) -> None:
    """Print a text for people; an `exact` one as it is, unless it goes to a terminal."""
    as_it_is = exact and not sys.stdout.isatty()
    click.echo(text if as_it_is else printable(text), err=err)


class OneWay(logging.Formatter):
    """A log line for people, printable."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
