"""Parts of a plan: the runs that a filter leaves, and the order in which they are done."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from oodml.errors import UsageError, unknown_name
from oodml.runs.spec import RunSpec
from oodml.splits.ladder import Ladder

# "curves": every method's whole curve with the first seed, then the next one.
# "seeds": all seeds of a method on a rung before the next.
ORDERS = ("curves", "seeds")
_KEYS = ("method", "rung", "seed")


def ordered(specs: Sequence[RunSpec], order: str) -> list[RunSpec]:
    """The runs in one of `ORDERS`, otherwise in the order given; `UsageError` for another word."""
    if order not in ORDERS:
        raise unknown_name("order", order, ORDERS)
    if order == "curves":
        return sorted(specs, key=lambda spec: spec.seed)
    places: dict[tuple[str, str], int] = {}
    for spec in specs:
        places.setdefault((spec.data.split, spec.label), len(places))
    return sorted(specs, key=lambda spec: (places[spec.data.split, spec.label], spec.seed))


def filtered(specs: Sequence[RunSpec], ladder: Ladder, text: str) -> list[RunSpec]:
    """The runs that a filter such as `method=margin,arcface,rung=0-3` leaves.

    Keys are method, rung and seed; a method is named with or without its hyperparameters. Raises
    `UsageError` for another key, a number that is none, or a filter that leaves nothing.
    """
    tests = [_test(key, values, ladder) for key, values in _parsed(text).items()]
    left = [spec for spec in specs if all(test(spec) for test in tests)]
    if not left:
        methods = ", ".join(sorted({spec.method.name for spec in specs}))
        raise UsageError(
            f"--filter {text} leaves none of {len(specs)} runs; they are of {methods} on rungs 0 "
            f"to {len(ladder.rungs) - 1}."
        )
    return left


def numbers_in(text: str, what: str) -> list[int]:
    """The numbers of "0-3" or "2"; `UsageError` naming `what` for anything else."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match is None:
        raise UsageError(f"{what} {text!r} is no number; write it as 2 or 0-3.")
    first = int(match[1])
    return list(range(first, int(match[2] or first) + 1))


def _parsed(text: str) -> dict[str, list[str]]:
    """The values of every key; a part without a key belongs to the key before it."""
    found: dict[str, list[str]] = {}
    key = ""
    for part in text.split(","):
        # The equals sign of a hyperparameter, margin(beta=0.6), stands behind a bracket.
        name, equals, value = part.partition("=")
        if equals and "(" not in name:
            key = name.strip()
            if key not in _KEYS:
                raise unknown_name("key of --filter", key, _KEYS)
        else:
            value = part
        if not key:
            raise UsageError(f"--filter {text}: write it as method=margin,rung=0-3.")
        found.setdefault(key, []).append(value.strip())
    return found


def _test(key: str, values: Sequence[str], ladder: Ladder) -> Callable[[RunSpec], bool]:
    if key == "method":
        return lambda spec: spec.method.name in values or spec.label in values
    numbers = {number for value in values for number in numbers_in(value, f"--filter {key}=")}
    if key == "seed":
        return lambda spec: spec.seed in numbers
    ids = {ladder.rungs[number].id for number in numbers if number < len(ladder.rungs)}
    return lambda spec: spec.data.split in ids
