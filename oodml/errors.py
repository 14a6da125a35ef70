"""Errors a user can cause: one line that says what was given, what is allowed, what to type."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class OodmlError(Exception):
    """A problem the user can mend; the command line prints it as one line without a traceback."""

    exit_code = 1


class DataError(OodmlError):
    """The data cannot be used as it is: images, features, ladders, records. Exit code 1."""


class UsageError(OodmlError):
    """The call is not valid as it was typed: names, options, ranges. Exit code 2."""

    exit_code = 2


def unknown_name(kind: str, given: str, allowed: Iterable[str]) -> UsageError:
    """A `UsageError` that names the closest of the `allowed` names, then all of them."""
    names = sorted(allowed)
    close = get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UsageError(f"unknown {kind} {given!r}.{hint} Known: {', '.join(names)}.")
