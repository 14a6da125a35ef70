"""One variable of a MATLAB file."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from oodml.errors import DataError

Value = TypeVar("Value")

# What SciPy's reader is known to raise on damaged files, besides its own error.
_FAILURES = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    ArithmeticError,
    MemoryError,
    zlib.error,
)


def read_mat(path: Path, variable: str, parse: Callable[[Any], Value]) -> list[Value]:
    """What `parse` makes of each element of an array, in its order; nothing is unpickled.

    Raises `DataError` if the file cannot be read, lacks the variable or `parse` fails.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, variable_names=[variable], squeeze_me=True)
        return [parse(element) for element in content[variable].reshape(-1)]
    except (*_FAILURES, MatReadError) as error:
        raise DataError(f"{path} has no readable variable {variable!r} ({error}).") from None
