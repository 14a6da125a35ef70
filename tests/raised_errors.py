"""Which exceptions a function may raise, followed through the package's own calls.

Read from the source: every function, class or method that a body names is taken as called, so what
is found is a little too much and never what no line of the call path could raise.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache, lru_cache

from public_api import Module, modules

# A method's name that more classes have than this says nothing about which one is called.
_TELLING = 4
Place = tuple[str, str]


@cache
def raised_by(module: str, name: str) -> frozenset[str]:
    """The names of exceptions that this definition, or what it leads to, speaks of."""
    seen: set[Place] = {(module, name)}
    pending = [(module, name)]
    found: set[str] = set()
    while pending:
        place = pending.pop()
        found |= _own(place)
        new = _leads_to(place) - seen
        seen |= new
        pending += new
    return frozenset(found)


@cache
def _own(place: Place) -> frozenset[str]:
    node = modules()[place[0]].definitions[place[1]]
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    errors = {name for name in names if name.endswith("Error")}
    return frozenset(errors | ({"UsageError"} if "unknown_name" in names else set()))


@cache
def _leads_to(place: Place) -> frozenset[Place]:
    module = modules()[place[0]]
    return frozenset(_named(module, module.definitions[place[1]]))


def _named(module: Module, node: ast.AST) -> Iterator[Place]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield from (place for place in _resolved(module, each.id) if place[1])
        if isinstance(each, ast.Attribute):
            yield from _attributes(module, each)


def _attributes(module: Module, node: ast.Attribute) -> Iterator[Place]:
    bases = _resolved(module, node.value.id) if isinstance(node.value, ast.Name) else []
    for home, base in bases:
        name = f"{base}.{node.attr}" if base else node.attr
        if name in modules()[home].definitions:
            yield home, name
    members = _members().get(node.attr, [])
    if not bases and len(members) <= _TELLING:
        yield from members


@lru_cache(maxsize=1)
def _members() -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for module in modules().values():
        for name in module.definitions:
            if "." in name:
                found.setdefault(name.split(".")[1], []).append((module.name, name))
    return found


def _resolved(module: Module, name: str) -> list[Place]:
    """Where a name of a module is defined; an empty name stands for a module itself."""
    if name in module.definitions:
        return [(module.name, name)]
    if name not in module.imported:
        return []
    home, there = module.imported[name]
    if f"{home}.{there}" in modules():
        return [(f"{home}.{there}", "")]
    return _resolved(modules()[home], there) if home in modules() else []
