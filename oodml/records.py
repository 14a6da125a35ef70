"""Records out of JSON: every value held against the annotation of its field."""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from oodml.errors import DataError

# A value, and where it stands: the name of a field, and what it is a field of.
Where = tuple[str, str]
Check = Callable[[Any, Where], Any]
# NumPy's integers and every counter of ours end here.
_LARGEST = 1 << 63
# Settings and episodes are nested by four; what goes deeper ends in a RecursionError somewhere.
_DEEPEST = 8


def checked_fields(
    record_type: type, record: Any, what: str, leave: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The values of a JSON object by field of a dataclass, lists as tuples where it has those.

    Fields in `leave` are passed on as they are. Raises `DataError` naming `what` and the field for
    an unknown or missing field, a value of another type than annotated, and a number that is not
    finite or is an integer beyond 64 bits.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{_short(record)} stands for {what}; needed is an object.")
    annotations, required = _annotations(record_type)
    unknown = sorted(str(key) for key in record if key not in annotations)
    if unknown:
        raise DataError(f"unknown keys in {what}: {', '.join(map(_short, unknown[:5]))}.")
    missing = sorted(name for name in required if name not in record)
    if missing:
        raise DataError(f"{what} lacks {', '.join(missing[:5])}.")
    return {
        name: value if name in leave else _check_of(annotations[name])(value, (name, what))
        for name, value in record.items()
    }


def checked_value(annotation: Any, value: Any, name: str, what: str) -> Any:
    """The value if it is of the annotated type, lists as tuples; `DataError` as above."""
    return _check_of(annotation)(value, (name, what))


@cache
def _annotations(record_type: type) -> tuple[dict[str, Any], tuple[str, ...]]:
    hints = get_type_hints(record_type)
    known = fields(record_type)
    required = (f.name for f in known if f.default is MISSING and f.default_factory is MISSING)
    return {f.name: hints[f.name] for f in known}, tuple(required)


@cache
def _check_of(annotation: Any) -> Check:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _either([_check_of(each) for each in inner])
    if origin is dict:
        return _dict_of(_check_of(inner[1]))
    if origin is tuple and inner[1:] == (...,):
        return _tuple_of(_check_of(inner[0]))
    if origin is tuple:
        return _row_of([_check_of(each) for each in inner])
    raise TypeError(f"no check for {annotation}")


def _text(value: Any, where: Where) -> Any:
    return value if type(value) is str else _refuse(value, where, "text")


def _flag(value: Any, where: Where) -> Any:
    return value if type(value) is bool else _refuse(value, where, "true or false")


def _whole(value: Any, where: Where) -> Any:
    if type(value) is int and -_LARGEST <= value < _LARGEST:
        return value
    return _refuse(value, where, "a whole number of at most 64 bits")


def _number(value: Any, where: Where) -> Any:
    fine = type(value) is float and math.isfinite(value)
    if fine or (type(value) is int and -_LARGEST <= value < _LARGEST):
        return value
    return _refuse(value, where, "a finite number")


def _nothing(value: Any, where: Where) -> Any:
    return None if value is None else _refuse(value, where, "null")


def _anything(value: Any, where: Where, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        return _refuse(value, where, f"nested at most {_DEEPEST} deep")
    if isinstance(value, list):
        for each in value:
            _anything(each, where, depth + 1)
    elif isinstance(value, dict):
        for each in value.values():
            _anything(each, where, depth + 1)
    elif value is not None and type(value) not in (str, bool):
        _number(value, where)
    return value


def _either(checks: list[Check]) -> Check:
    def check(value: Any, where: Where) -> Any:
        for each in checks[:-1]:
            try:
                return each(value, where)
            except DataError:
                continue
        return checks[-1](value, where)

    # Null is tried first, so that the error is about the type that is meant.
    checks.sort(key=lambda each: each is not _nothing)
    return check


def _dict_of(inner: Check) -> Check:
    def check(value: Any, where: Where) -> Any:
        if not isinstance(value, dict) or any(type(key) is not str for key in value):
            return _refuse(value, where, "an object")
        return {key: inner(each, where) for key, each in value.items()}

    return check


def _tuple_of(inner: Check) -> Check:
    def check(value: Any, where: Where) -> Any:
        if not isinstance(value, list | tuple):
            return _refuse(value, where, "a list")
        return tuple([inner(each, where) for each in value])

    return check


def _row_of(inner: list[Check]) -> Check:
    def check(value: Any, where: Where) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(inner):
            return _refuse(value, where, f"a list of {len(inner)}")
        return tuple(each(item, where) for each, item in zip(inner, value, strict=True))

    return check


def _refuse(value: Any, where: Where, needed: str) -> Any:
    raise DataError(f"{where[0]} is {_short(value)} in {where[1]}; needed is {needed}.")


def _short(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of too many digits to be written out
        return "a huge number"


_PLAIN: dict[Any, Check] = {
    str: _text,
    bool: _flag,
    int: _whole,
    float: _number,
    type(None): _nothing,
    Any: _anything,
}
