"""What each mutant changes, read from the files that mutmut made."""

from __future__ import annotations

import ast
import json
from difflib import unified_diff
from functools import cache
from pathlib import Path


@cache
def _functions(path: Path) -> dict[str, list[str]]:
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            name, node.name = node.name, "f"
            found[name] = ast.unparse(node).splitlines()
    return found


def mutants_of(folder: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The module and the changed lines ("-old", "+new") of every mutant in `folder`/mutants."""
    found = {}
    for meta in sorted((folder / "mutants").rglob("*.meta")):
        path = meta.with_suffix("")
        functions = _functions(path)
        for name in json.loads(meta.read_text())["exit_code_by_key"]:
            mutant = name.rsplit(".", 1)[1]
            original = mutant.rsplit("__mutmut_", 1)[0] + "__mutmut_orig"
            lines = unified_diff(functions[original], functions[mutant], lineterm="", n=0)
            changed = [line for line in lines if line[:3] not in ("---", "+++") and line[0] != "@"]
            found[name] = str(path.relative_to(folder / "mutants")), tuple(changed)
    return found


def is_wording(changed: tuple[str, ...]) -> bool:
    """Whether only an error or a line of the log changes."""
    olds = [line[1:].lstrip() for line in changed if line[0] == "-"]
    return all(line.startswith(("raise ", "LOG.", "logger.")) for line in olds)
