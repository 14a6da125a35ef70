"""One superclass per class, or one line that says which class has two."""

from __future__ import annotations

from collections.abc import Iterable

from oodml.errors import DataError


def groups_of(source: object, stated: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Class names to groups, from triples of class name, group and the place that says so.

    Raises `DataError` if a class is in two groups; `source` and the place are for its message.
    """
    groups: dict[str, str] = {}
    for class_name, group, place in stated:
        known = groups.setdefault(class_name, group)
        if known != group:
            raise DataError(
                f"{source}: {place}: class {class_name!r} is in group {group!r} here and in group "
                f"{known!r} before."
            )
    return groups
