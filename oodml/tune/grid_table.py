"""Grid files: settings as tables of TOML that `oodml run` takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def grid_tables(grids: Sequence[Mapping[str, Any]], *, comment: str = "") -> str:
    """TOML text with one `[[grid]]` table for each of `grids`, under lines of comment.

    Values are words, switches, finite numbers, lists and dicts of these.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    for grid in grids:
        keys = [f"{_key(name)} = {_value(value)}" for name, value in grid.items()]
        lines += ["", "[[grid]]", *keys]
    return "\n".join(lines).lstrip("\n") + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else repr(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """A basic string: JSON's, but for the one control character that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
