"""Errors a user can cause: one line that says what was given, what is allowed, what to type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher


class OodmlError(Exception):
    """A problem the user can mend; the command line prints it as one line without a traceback."""

    exit_code = 1


class DataError(OodmlError):
    """The data cannot be used as it is: images, features, ladders, records. Exit code 1."""


class UsageError(OodmlError):
    """The call is not valid as it was typed: names, options, ranges. Exit code 2."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not among those that are known."""


# Names that an error suggests, and the longest list that it prints whole beside a suggestion.
CLOSEST = 5
SHORT = 8
# Like get_close_matches, whose own 0.6 misses the short names of hyperparameters.
_ALIKE = 0.5


def unknown_name(kind: str, given: str, allowed: Iterable[str]) -> UnknownNameError:
    """The error with the closest of the `allowed` names, or all of them: see `suggestion`."""
    return UnknownNameError(f"unknown {kind} {given!r}.{suggestion(given, allowed)}")


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """Sentences, after a blank, with the five names closest to a wrong one, closest first.

    All names follow if they are few; they stand alone if none is close. Empty without names.
    """
    names = sorted(set(allowed))
    close = closest_names(given, names)
    hint = did_you_mean(close[: 1 if len(names) <= SHORT else CLOSEST])
    if not names or (close and len(names) > SHORT):
        return hint
    others = [name for name in names if name not in close]
    return f"{hint} Known: {', '.join(close + others)}."


def did_you_mean(close: Sequence[str]) -> str:
    """The question, after a blank, whether one of these names was meant; empty without names."""
    if not close:
        return ""
    *others, last = [repr(name) for name in close]
    return f" Did you mean {' or '.join([', '.join(others), last] if others else [last])}?"


def closest_names(given: str, names: Iterable[str]) -> list[str]:
    """The names that begin with `given`, then those that are spelt like it; closest first."""
    ranked = []
    for name in names:
        matcher = SequenceMatcher(None, name.casefold(), given.casefold())
        ratio, run = matcher.ratio(), matcher.find_longest_match().size
        begins = len(given) > 1 and name.casefold().startswith(given.casefold())
        if begins or ratio >= _ALIKE:
            ranked.append((not begins, -ratio, -run, name))
    return [name for *_, name in sorted(ranked)]
