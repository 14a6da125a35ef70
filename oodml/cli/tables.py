"""Tables as text, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Named columns and rows of numbers and words; None stands for a gap."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def render(self, table_format: str) -> str:
        """The table as "text", "markdown", "csv" or "json"; floats in full in the last two."""
        return {
            "text": self._text,
            "markdown": self._markdown,
            "csv": self._csv,
            "json": self._json,
        }[table_format]()

    def _text(self) -> str:
        lines = self._aligned()
        return "\n".join("  ".join(line).rstrip() for line in lines)

    def _markdown(self) -> str:
        header, *body = self._aligned()
        rule = ["-" * (len(cell) - 1) + ":" for cell in header]
        return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *body])

    def _aligned(self) -> list[list[str]]:
        cells = [list(self.columns), *[[_shown(value) for value in row] for row in self.rows]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        left = [all(isinstance(row[i], str) for row in self.rows) for i in range(len(widths))]
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
        return json.dumps(records, ensure_ascii=False, indent=2)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 2 else f"{value:.4f}"
    return str(value)
