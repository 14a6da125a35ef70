"""The table 'Where things are' of README and CONTRIBUTING names files and functions that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOUNS = {"Dataset", "Features", "shift of a split", "Split", "Ladder", "Method", "loop", "RunSpec"}
NOUNS |= {"Store", "metric", "chart", "report", "command", "launcher"}


def rows(page: str) -> list[tuple[str, str, str]]:
    """(noun, file, start at) of every line of the table."""
    section = (ROOT / page).read_text().split("## Where things are", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", section, re.M)
    return [row for row in cells if row[0] != "noun" and not row[0].startswith("-")]


def defined(path: str) -> set[str]:
    body = ast.parse((ROOT / path).read_text()).body
    named = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in body if isinstance(node, named)}


def test_both_pages_carry_the_same_table() -> None:
    assert rows("README.md") == rows("CONTRIBUTING.md")
    assert {noun for noun, *_ in rows("README.md")} >= NOUNS


def test_every_path_and_name_of_the_table_exists() -> None:
    for _, place, start in rows("README.md"):
        words = re.findall(r"`([^`]+)`", f"{place} {start}")
        paths = [word for word in words if "/" in word]
        assert all((ROOT / path).exists() for path in paths), paths
        known = set().union(*(defined(path) for path in paths if path.endswith(".py")))
        assert known >= set(words) - set(paths), start
