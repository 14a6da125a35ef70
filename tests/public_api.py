"""The public functions and classes of the package, read from the source without importing it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "oodml"
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, eq=False)
class Module:
    """One module: its dotted name and its syntax tree."""

    name: str
    tree: ast.Module

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """Functions and classes by name, methods by Class.method."""
        found: dict[str, Definition] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, _DEFINITIONS):
                found.setdefault(node.name, node)
            if isinstance(node, ast.ClassDef):
                members = [n for n in node.body if isinstance(n, _DEFINITIONS)]
                found |= {f"{node.name}.{member.name}": member for member in members}
        return found

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """Name here -> (module, name there), for what comes from the package itself."""
        return {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("oodml")
            for alias in node.names
        }

    @cached_property
    def head(self) -> set[str]:
        """The words of the module outside of its functions and classes."""
        outside = [node for node in self.tree.body if not isinstance(node, _DEFINITIONS)]
        return {word for node in outside for word in words(node)}

    @cached_property
    def strings(self) -> set[str]:
        """The words of its strings, docstrings left out."""
        return {word for text in _strings(self.tree) for word in re.findall(r"\w+", text)}

    @cached_property
    def fields(self) -> set[str]:
        """The fields of its classes, and the attributes that their methods set."""
        annotated = [node.target for node in ast.walk(self.tree) if isinstance(node, ast.AnnAssign)]
        return {ast.unparse(target).removeprefix("self.") for target in annotated}

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Names given to something at the module's top, with its text."""
        return {
            node.targets[0].id: ast.unparse(node.value)
            for node in self.tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }


@dataclass(frozen=True)
class Public:
    """A public function or class, its module, its name there and its docstring."""

    module: Module
    name: str
    node: Definition
    text: str

    @property
    def place(self) -> str:
        return f"{self.module.name}.{self.name}"

    @property
    def paragraphs(self) -> str:
        return " ".join(self.text.split())

    @property
    def above(self) -> str:
        return " ".join((ast.get_docstring(self.module.tree) or "").split())


@lru_cache
def modules() -> dict[str, Module]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = Module(name, ast.parse(path.read_text(encoding="utf-8")))
    return found


@lru_cache
def public() -> list[Public]:
    """The public functions and classes of all modules, and the public methods of such classes."""
    return [
        Public(module, name, node, ast.get_docstring(node) or "")
        for module in modules().values()
        for name, node in module.definitions.items()
        if not any(part.startswith("_") for part in name.split("."))
        and (node in module.tree.body or "." in name)
    ]


def words(tree: ast.AST) -> set[str]:
    """Every name, attribute and argument, and every word of a string, docstrings left out."""
    named = {
        value
        for node in ast.walk(tree)
        for value in (getattr(node, key, None) for key in ("id", "attr", "arg", "name", "asname"))
        if isinstance(value, str)
    }
    return named | {word for text in _strings(tree) for word in re.findall(r"\w+", text)}


def _strings(tree: ast.AST) -> list[str]:
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if _has_docstring(node)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


def _has_docstring(node: ast.AST) -> bool:
    kinds = (ast.Module, *_DEFINITIONS)
    return isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None
