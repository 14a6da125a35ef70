"""What each mutant changes, read from the files that mutmut made."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One change of one function; `name` is mutmut's."""

    name: str
    module: str
    function: str
    changed: tuple[str, ...]

    @property
    def is_wording(self) -> bool:
        """Whether only an error or a line of the log changes."""
        olds = [line[1:].lstrip() for line in self.changed if line[0] == "-"]
        return all(line.startswith(("raise ", "LOG.", "logger.")) for line in olds)


def mutants_of(folder: Path) -> list[Mutant]:
    """Every mutant in `folder`/mutants, module by module, in the order of its function."""
    found = []
    for meta in sorted((folder / "mutants").rglob("*.meta")):
        path = meta.with_suffix("")
        for name in json.loads(meta.read_text())["exit_code_by_key"]:
            module = str(path.relative_to(folder / "mutants" / "oodml"))
            changed = _changed(path, name.rsplit(".", 1)[1])
            found.append(Mutant(name, module, _function(name), changed))
    return found


def _function(name: str) -> str:
    module, mangled = name.rsplit("__mutmut_", 1)[0].removeprefix("oodml.").rsplit(".", 1)
    parts = mangled.removeprefix("x").replace("ǁ", ".").strip(".")
    return f"{module}.{parts if 'ǁ' in mangled else parts.removeprefix('_')}"


def _changed(path: Path, mutant: str) -> tuple[str, ...]:
    functions = _functions(path)
    original = functions[mutant.rsplit("__mutmut_", 1)[0] + "__mutmut_orig"]
    lines = unified_diff(original, functions[mutant], lineterm="", n=0)
    return tuple(line for line in lines if line[:3] not in ("---", "+++") and line[0] != "@")


@cache
def _functions(path: Path) -> dict[str, list[str]]:
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            name, node.name = node.name, "f"
            found[name] = ast.unparse(node).splitlines()
    return found
