"""Which exceptions a function may raise, followed through the package's own calls.

Read from the source: every function and class that a body names is taken as called, and methods of
`self`, of classes and of modules. Methods of other objects are not followed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

from public_api import Module, modules

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
    found: set[Place] = set()
    for node in ast.walk(module.definitions[place[1]]):
        if isinstance(node, ast.Name):
            found |= {named for named in _resolved(module, node.id) if named[1]}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= set(_members(module, node.value.id, node.attr, place[1].split(".")[0]))
    return frozenset(found)


def _members(module: Module, base: str, member: str, around: str) -> Iterator[Place]:
    bases = [(module.name, around)] if base in ("self", "cls") else _resolved(module, base)
    for home, name in bases:
        full = f"{name}.{member}" if name else member
        if full in modules()[home].definitions:
            yield home, full


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
