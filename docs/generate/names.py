"""docs/names.md: the names that commands take, as `oodml list` prints them."""

from __future__ import annotations

import json

from click.testing import CliRunner

from oodml.cli import main

_HEAD = """# Names

What `oodml list datasets`, `metrics` and `protocols` print, written by `python docs/generate`.
[Methods](methods.md) and [backbones](backbones.md) have pages of their own. [Metrics](metrics.md)
says what each metric means, [Methods](methods.md#published-protocols) what the protocols set.
"""
_LISTED = ("datasets", "metrics", "protocols")


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *(_section(name) for name in _LISTED)])


def _section(name: str) -> str:
    result = CliRunner().invoke(main, ["list", name, "--format", "json"], catch_exceptions=False)
    rows = json.loads(result.output)
    header = list(rows[0])
    lines = [f"## {name.capitalize()}", "", _line(header), "|" + "---|" * len(header)]
    lines += [_line([f"`{row[header[0]]}`", *(row[key] for key in header[1:])]) for row in rows]
    return "\n".join([*lines, ""])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
