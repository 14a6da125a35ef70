"""The table 'Where things are' of README and CONTRIBUTING: its files and names are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md")
NOUNS = {
    "Dataset", "Features", "Split", "Ladder", "RunSpec", "Store", "metric", "chart", "report",
    "Method", "loop", "command", "launcher",
}  # fmt: skip


def rows(page: str) -> list[list[str]]:
    """The cells (noun, file, start at) of the table below the heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    section = text.partition("\n## Where things are\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def defined_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


def missing(file: str, start: str) -> list[str]:
    """Paths of a row that are not there, and names that stand in none of its files."""
    named = re.findall(r"`([^`]+)`", f"{file} {start}")
    paths = [each for each in named if "/" in each]
    gone = [path for path in paths if not (ROOT / path).exists()]
    files = [path for path in paths if path.endswith(".py") and path not in gone]
    known = set().union(*map(defined_in, files))
    return gone + [name for name in named if name not in paths and name not in known]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_name_of_the_table_is_there(page: str) -> None:
    head, _, *body = rows(page)
    assert head == ["noun", "file", "start at"]
    assert {noun for noun, _, _ in body} >= NOUNS
    assert {noun: missing(file, start) for noun, file, start in body if missing(file, start)} == {}
    for noun, file, start in body:
        assert file.startswith("`oodml/") and "`" in start, noun


def test_both_pages_have_the_same_table() -> None:
    assert rows("README.md") == rows("CONTRIBUTING.md")


def test_a_name_or_a_file_that_is_not_there_is_seen() -> None:
    assert missing("`oodml/files.py`", "`read_file`, `no_such_name`") == ["no_such_name"]
    assert missing("`oodml/nowhere.py`", "") == ["oodml/nowhere.py"]
