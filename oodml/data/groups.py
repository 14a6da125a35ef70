"""One superclass per class, or one line that says which class has two."""

from __future__ import annotations

from collections.abc import Iterable

from oodml.data.samples import Refuse, refuse_at_once
from oodml.errors import DataError


def groups_of(
    source: object, stated: Iterable[tuple[str, str, str]], refuse: Refuse = refuse_at_once
) -> dict[str, str]:
    """Class names to groups, from triples of class name, group and the place that says so.

    Refuses a class in two groups, and keeps the first; `source` and the place are for the message.
    """
    groups: dict[str, str] = {}
    for class_name, group, place in stated:
        known = groups.setdefault(class_name, group)
        if known != group:
            refuse(
                DataError(
                    f"{source}: {place}: class {class_name!r} is in group {group!r} here and in "
                    f"group {known!r} before."
                )
            )
    return groups
