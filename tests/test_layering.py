"""Imports point one way, between folders and between files."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

import oodml

PACKAGE = Path(oodml.__file__).parent
# Every folder may import what stands before it; files beside the folders are the ground floor.
FOLDERS = [
    "data", "features", "fid", "splits", "runs", "eval", "train", "launch", "tune", "commands",
    "cli",
]  # fmt: skip
TOP = ("cli", "__main__")


def modules() -> dict[str, ast.Module]:
    """The syntax tree of every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.AST, known: set[str]) -> set[str]:
    """The modules that a file imports, at its top or inside functions."""
    return set(_imports(tree, known))


def _imports(tree: ast.AST, known: set[str]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the folder"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield from {full if full in known else node.module or ""} & known
        else:
            yield from _imports(node, known)


def graph() -> dict[str, set[str]]:
    """Every module with the modules that it imports; `oodml` itself is everybody's parent."""
    trees = modules()
    known = set(trees) - {"oodml"}
    return {name: imports(tree, known) for name, tree in trees.items() if name in known}


def floor(module: str) -> int:
    _, first, *_ = module.split(".")
    if first in FOLDERS:
        return 1 + FOLDERS.index(first)
    if (PACKAGE / first).is_dir():
        pytest.fail(f"{module} has no place; give its folder one in FOLDERS")
    return len(FOLDERS) if first in TOP else 0


def upward(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    return [(one, other) for one in graph for other in graph[one] if floor(other) > floor(one)]


def circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_folders_import_only_what_stands_before_them() -> None:
    assert upward(graph()) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(graph()) == []


def test_the_checks_see_imports_inside_functions() -> None:
    known = {"oodml.cli.run", "oodml.fid.frechet"}
    tree = ast.parse("def f():\n    from oodml.cli.run import run_command\n")
    wrong = {"oodml.fid.frechet": imports(tree, known), "oodml.cli.run": {"oodml.fid.frechet"}}
    assert upward(wrong) == [("oodml.fid.frechet", "oodml.cli.run")]
    assert circle(wrong)


@pytest.mark.parametrize("name", oodml.__all__)
def test_every_public_name_is_where_it_is_said_to_be(name: str) -> None:
    assert getattr(oodml, name).__name__.rpartition(".")[2] == name


@pytest.mark.parametrize("code", ["import oodml", "import oodml.cli; oodml.cli.main(['--help'])"])
def test_importing_oodml_and_its_help_do_not_import_torch(code: str) -> None:
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n" + code
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == "False"


@pytest.mark.parametrize("name", oodml.__all__)
def test_no_module_hides_a_public_name_once_it_is_imported(name: str) -> None:
    assert find_spec(f"oodml.{name}") is None
