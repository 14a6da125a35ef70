"""Values of hyperparameters: as they are typed, and in the type of their default."""

from __future__ import annotations

import json
import math
from typing import Any

from oodml.errors import UsageError


def literal(text: str) -> Any:
    """The number, truth value, list or quoted string that a text spells; otherwise the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def like(default: Any, value: Any, what: str) -> Any:
    """The value in its default's type; `UsageError` calling it `what` if it is of another one."""
    if isinstance(default, str) and isinstance(value, int | float) and not isinstance(value, bool):
        # targets=256 is read as a number and means the word.
        return str(value)
    if isinstance(default, bool) or default is None or isinstance(default, str):
        fits = default is None or isinstance(value, type(default))
        converted = value
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and math.isfinite(value)
        fits = fits and (isinstance(default, float) or float(value).is_integer())
        converted = type(default)(value) if fits else value
    if not fits:
        raise UsageError(
            f"{what}={value!r} is not of the type of its default {default!r}, or not finite."
        )
    return converted
