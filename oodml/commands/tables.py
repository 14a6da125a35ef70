"""What commands print: text that is safe on a terminal, JSON, and tables in five formats."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from oodml.text import printable, printable_json


def echo(text: str = "", *, exact: bool = False, err: bool = False) -> None:
    """Print text with control characters escaped; an `exact` one so only on a terminal."""
    as_it_is = exact and not sys.stdout.isatty()
    click.echo(text if as_it_is else printable(text), err=err)


def json_text(value: Any) -> str:
    """Indented JSON with control characters as JSON's own escapes."""
    return printable_json(json.dumps(value, ensure_ascii=False, indent=2))


def on_one_line(text: str) -> str:
    """The text with control characters, line feeds and tabs escaped."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class PrintableFormatter(logging.Formatter):
    """Log lines with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@dataclass(frozen=True)
class Table:
    """Named columns and rows of numbers and text; None is a gap."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def render(self, table_format: str) -> str:
        """The table as "text", "markdown", "latex" (booktabs), "csv" or "json".

        The last two hold floats in full.
        """
        return {
            "text": self._text,
            "markdown": self._markdown,
            "latex": self._latex,
            "csv": self._csv,
            "json": self._json,
        }[table_format]()

    def _text(self) -> str:
        lines = self._aligned()
        return "\n".join("  ".join(line).rstrip() for line in lines)

    def _markdown(self) -> str:
        header, *body = self._aligned(_in_markdown)
        rule = ["-" * (len(cell) - 1) + ":" for cell in header]
        return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *body])

    def _latex(self) -> str:
        header, *body = [
            " & ".join(_escaped(cell) for cell in line) + r" \\" for line in self._cells()
        ]
        columns = "".join("l" if left else "r" for left in self._left())
        return "\n".join(
            [
                *(rf"\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule"),
                *body,
                *(r"\bottomrule", r"\end{tabular}"),
            ]
        )

    def _cells(self) -> list[list[str]]:
        return [[_shown(value) for value in row] for row in [self.columns, *self.rows]]

    def _left(self) -> list[bool]:
        """Which columns hold text only and are aligned left."""
        return [all(isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))]

    def _aligned(self, written: Callable[[str], str] = str) -> list[list[str]]:
        left = self._left()
        cells = [[written(cell) for cell in row] for row in self._cells()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        return [
            [
                cell.ljust(width) if to_left else cell.rjust(width)
                for cell, width, to_left in zip(row, widths, left, strict=True)
            ]
            for row in cells
        ]

    def _csv(self) -> str:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([self.columns, *self.rows])
        return buffer.getvalue().rstrip("\n")

    def _json(self) -> str:
        records = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return json_text(records)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 2 else f"{value:.4f}"
    return on_one_line(str(value))


def _in_markdown(cell: str) -> str:
    """The cell with the characters of tables, code, links and HTML escaped."""
    return re.sub(r"[\\|<`\[]", r"\\\g<0>", cell)


_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
}


def _escaped(cell: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in cell)
