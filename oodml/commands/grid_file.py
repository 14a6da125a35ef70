"""Grid files: several grids in one TOML file, in the words of the command line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from oodml.errors import DataError, UsageError, unknown_name
from oodml.train.plan import numbers_in
from oodml.train.settings import SETTINGS

_OWN = ("methods", "hyperparameters", "seeds", "rungs")
_WORDS = {
    "backbone": "backbones",
    "train": "trained",
    "protocol": "preset",
    "recipe": "recipe",
    "equal-gallery": "equal_gallery",
    "reference": "reference",
    "reference-null": "reference_null",
}

# Far more than any grid holds, and few enough that a list of them fits in memory.
_MOST = 100_000
_BEYOND = re.compile(r"\d{6}|huge")
_LARGEST = 1 << 53
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class GridTable:
    """One `[[grid]]`: its methods as typed, and what it says in place of the command line.

    `options` are by the names of the command line's parameters.
    """

    methods: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def read_grids(path: Path, command: click.Command) -> list[GridTable]:
    """The `[[grid]]` tables of a TOML file, their values checked by the options of `command`.

    Raises `DataError` for a file that is no TOML and `UsageError` for unknown keys and values.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from None
    for key in content:
        if key != "grid":
            raise unknown_name(f"key in {path}", key, ["grid"])
    tables = content.get("grid")
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise UsageError(f"{path} holds no grid; write [[grid]] and below it methods = [...].")
    return [_Reader(f"{path}, grid {at}", command).table(t) for at, t in enumerate(tables, 1)]


def grid_tables(grids: Sequence[Mapping[str, Any]], *, comment: str = "") -> str:
    """TOML text with one `[[grid]]` table for each of `grids`, under lines of comment.

    Values are words, switches, finite numbers, lists and dicts of these.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    for grid in grids:
        keys = [f"{_key(name)} = {_toml(value)}" for name, value in grid.items()]
        lines += ["", "[[grid]]", *keys]
    return "\n".join(lines).lstrip("\n") + "\n"


class _Reader:
    """Reads one table; `where` names it in errors."""

    def __init__(self, where: str, command: click.Command) -> None:
        self.where = where
        settings = {s.flag.removeprefix("--"): s.parameter for s in SETTINGS.values()}
        self.names = {**settings, **_WORDS}
        self.parameters = {p.name: p for p in command.params}
        self.context = click.Context(command)

    def table(self, values: dict[str, Any]) -> GridTable:
        for key in values:
            if key not in self.names and key not in _OWN:
                raise unknown_name(f"key in {self.where}", key, [*_OWN, *self.names])
        options = {self.names[k]: self._value(k, v) for k, v in values.items() if k in self.names}
        if "seeds" in values:
            options["seeds"] = self._seeds(values["seeds"])
        if rungs := self._rungs(values.get("rungs", [])):
            options["rungs"] = tuple(rungs)
        return GridTable(tuple(self._methods(values)), options)

    def _seeds(self, seeds: Any) -> int:
        if not _is_number(seeds) or not 1 <= seeds <= _MOST:
            raise UsageError(
                f"{self.where}: seeds = {_shown(seeds)}: give a number of at least 1, at most "
                f"{_MOST}."
            )
        return int(seeds)

    def _methods(self, values: dict[str, Any]) -> list[str]:
        methods = values.get("methods")
        if not isinstance(methods, list) or not methods or not _are_words(methods):
            raise UsageError(f'{self.where}: name its methods: methods = ["margin", "arcface"].')
        more = values.get("hyperparameters", {})
        if not isinstance(more, dict):
            raise UsageError(f"{self.where}: write hyperparameters as {{beta = 0.6}}.")
        written = ",".join(f"{name}={_written(value)}" for name, value in more.items())
        return [_joined(method, written) for method in methods]

    def _rungs(self, given: Any) -> list[int]:
        parts: Sequence[Any] = given if isinstance(given, list) else [given]
        for part in parts:
            if _BEYOND.search(_shown(part)) is not None:
                raise UsageError(
                    f"{self.where}: rungs = {_shown(part)}: a ladder has no such rung."
                )
        return sorted({n for part in parts for n in numbers_in(str(part), f"{self.where}: rungs")})

    def _value(self, key: str, value: Any) -> Any:
        """A setting's value, of the type of the option that it stands for."""
        parameter = self.parameters[self.names[key]]
        if key == "backbone":
            names = [value] if isinstance(value, str) else value
            if not isinstance(names, list) or not names or not _are_words(names):
                raise UsageError(
                    f'{self.where}: name models as backbone = ["resnet50", "resnet18@112"].'
                )
            return tuple(names)
        if isinstance(parameter, click.Option) and parameter.is_flag:
            if not isinstance(value, bool):
                raise UsageError(f"{self.where}: {key} = {value!r}: give true or false.")
            return value
        if _is_number(value) and abs(value) > _LARGEST:
            raise UsageError(f"{self.where}: {key} = {_shown(value)}: too large for a setting.")
        if isinstance(value, bool | list | dict):
            raise UsageError(f"{self.where}: {key} = {value!r}: give a single value.")
        try:
            return parameter.type.convert(value, parameter, self.context)
        except click.BadParameter as error:
            raise UsageError(f"{self.where}: {key} = {value!r}: {error.message}") from None


def _shown(value: Any) -> str:
    """The value as typed, cut where it is long; an integer may have too many digits to print."""
    return "a huge number" if _is_number(value) and abs(value) > _LARGEST else str(value)[:40]


def _joined(method: str, written: str) -> str:
    if not written:
        return method
    return f"{method},{written}" if ":" in method else f"{method}:{written}"


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_words(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(name)} = {_toml(each)}" for name, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else repr(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """A basic string: JSON's, but for the one control character that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
