"""Plain values read from a pickle by an interpreter that cannot call anything."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from oodml.errors import DataError

# The only names that the published pickles look up; they are recognised here, never imported.
_GLOBALS = {
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy", "dtype"): "dtype",
    ("numpy", "str_"): "str",
    ("numpy", "float64"): "float",
    # How protocols below 3 write bytes.
    ("_codecs", "encode"): "bytes",
}
_NUMBERS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i"}
# Keys outside this range are no counts; it also leaves no room for colliding hashes.
_LARGEST_KEY = 1 << 31


class _RefusedError(Exception):
    """Why a pickle was refused, in words for the user."""


@dataclass(frozen=True)
class _Name:
    kind: str


@dataclass
class _NumberType:
    """A NumPy dtype under construction: "U26" or "f8", and the byte order that its state sets."""

    code: str
    order: str = "<"

    def decode(self, data: Any) -> Any:
        if not isinstance(data, bytes):
            raise _RefusedError("a scalar that is not made of bytes")
        if self.code[0] == "U" and self.code[1:].isdecimal() and len(data) % 4 == 0:
            return data.decode("utf-32-le" if self.order == "<" else "utf-32-be").rstrip("\0")
        if self.code not in _NUMBERS:
            raise _RefusedError(f"a scalar of type {self.code[:20]!r}")
        return struct.unpack(self.order + _NUMBERS[self.code], data)[0]


_MARK = object()


class _Machine:
    """The stack and the memo of a pickle; every opcode it knows makes plain values only."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _PUTS:
            self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]
        elif name in _GETS:
            self.stack.append(self.memo[int(argument)])
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise _RefusedError(f"the instruction {name}, which may run code")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise _RefusedError("a mark in the place of a value")
        return value

    def pop_to_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise _RefusedError(f"another value where a {kind.__name__.strip('_')} is needed")
        return self.stack[-1]

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str and not (type(key) is int and abs(key) < _LARGEST_KEY):
                raise _RefusedError(f"a key of type {type(key).__name__}")
            target[key] = value

    def new_dict(self, values: list[Any]) -> None:
        self.stack.append({})
        self.set_items(values)

    def find(self, module: Any, name: Any) -> None:
        kind = _GLOBALS.get((module, name)) if type(module) is type(name) is str else None
        if kind is None:
            raise _RefusedError(f"the name {str(module)[:60]}.{str(name)[:60]}")
        self.stack.append(_Name(kind))

    def reduce(self) -> None:
        arguments, target = self.pop(), self.pop()
        if not isinstance(target, _Name) or type(arguments) is not tuple:
            raise _RefusedError("a call of something that is no name")
        self.stack.append(_made(target.kind, arguments))

    def build(self) -> None:
        state = self.pop()
        target = self.top(_NumberType)
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise _RefusedError("the state of a number type that is none")
        target.order = ">" if state[1] == ">" else "<"


def _made(kind: str, arguments: tuple[Any, ...]) -> Any:
    if kind == "dtype" and arguments and type(arguments[0]) is str and arguments[0]:
        return _NumberType(arguments[0])
    if kind == "scalar" and len(arguments) == 2 and isinstance(arguments[0], _NumberType):
        return arguments[0].decode(arguments[1])
    if kind == "str" and len(arguments) == 1 and type(arguments[0]) is str:
        return arguments[0]
    if kind == "bytes" and len(arguments) == 2 and type(arguments[0]) is str:
        return arguments[0].encode("latin-1")
    if kind == "float" and len(arguments) == 1 and type(arguments[0]) in (int, float):
        return _float(arguments[0])
    raise _RefusedError(f"a call of {kind} with arguments that no published file has")


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise _RefusedError("an integer beyond all floats") from None


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK, "EMPTY_TUPLE": ()}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "INT", "LONG", "FLOAT", "UNICODE",
}  # fmt: skip
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "DICT": lambda m, _: m.new_dict(m.pop_to_mark()),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.stack.append((m.pop(),)),
    "TUPLE2": lambda m, _: m.stack.append((m.pop(), m.pop())[::-1]),
    "TUPLE3": lambda m, _: m.stack.append((m.pop(), m.pop(), m.pop())[::-1]),
    "GLOBAL": lambda m, argument: m.find(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.find(*(m.pop(), m.pop())[::-1]),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
}


def read_plain_pickle(data: bytes, path: object = "the file") -> Any:
    """The dicts, lists, tuples, strings and numbers in a pickle; NumPy scalars become plain.

    Nothing is imported and nothing is called, whatever the bytes say: an instruction or a name
    that the published split files do not need raises `DataError`, as do damaged files. Memory
    grows with the file's size only, since no length or index in it is trusted.
    """
    machine = _Machine()
    try:
        for name, argument in _instructions(data):
            machine.step(name, argument)
        if len(machine.stack) != 1:
            raise _RefusedError("more than one value, or none")
        return machine.pop()
    except _RefusedError as why:
        raise DataError(
            f"{path} was refused before anything in it ran: it holds {why}. A published split "
            "file holds dicts, lists, names and numbers only."
        ) from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise DataError(f"{path} is not a whole pickle ({str(error)[:80]}).") from None


def _instructions(data: bytes) -> Iterator[tuple[str, Any]]:
    # genops reads ahead by the lengths in the file, but never past the file's end.
    for opcode, argument, _ in pickletools.genops(data):
        yield opcode.name, argument
