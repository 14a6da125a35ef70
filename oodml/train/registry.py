"""The registry of methods: one decorated function is all that a loss-only method needs."""

from __future__ import annotations

import inspect
import json
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError, UsageError, unknown_name
from oodml.store import RunSpec

Build = Callable[..., Any]
_REGISTRY: dict[str, MethodEntry] = {}
# What a paper may prescribe; everything else of a run is the user's to choose.
_SETTINGS = ("samples_per_class", "batch_size", "learning_rate", "criterion_learning_rate")


@dataclass(frozen=True)
class MethodEntry:
    """A named method: how to build its criterion, its paper and its paper's settings."""

    name: str
    build: Build
    paper: str
    trains: bool
    settings: dict[str, Any]

    @property
    def summary(self) -> str:
        """The first line of the method's docstring."""
        return (inspect.getdoc(self.build) or "").partition("\n")[0]

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The names and default values of the keyword-only arguments."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def check(self, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
        """The given hyperparameters that differ from their defaults, in their default's type.

        Raises `UsageError` for a name or a value that the method does not take.
        """
        changed = {}
        for name, value in hyperparameters.items():
            if name not in self.hyperparameters:
                raise unknown_name(f"hyperparameter of {self.name}", name, self.hyperparameters)
            default = self.hyperparameters[name]
            value = _like(default, value, f"{self.name}: {name}")
            if value != default:
                changed[name] = value
        return changed


def method(
    name: str, *, paper: str, trains: bool = True, **settings: Any
) -> Callable[[Build], Build]:
    """Register `build(num_classes, embedding_dim, *, hyperparameters...)` under a name.

    `build` returns a `torch.nn.Module` criterion called with (embeddings, labels), or a
    `Criterion` with a miner. `paper` is its source; `settings` are run settings that the paper
    prescribes, such as `samples_per_class=2`. `trains=False` marks a method without training.

    >>> @method("margin", paper="arXiv:1706.07567")
    ... def margin(num_classes, embedding_dim, *, margin=0.2, beta=1.2): ...
    """
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        raise unknown_name("method setting", unknown[0], _SETTINGS)

    def register(build: Build) -> Build:
        existing = _REGISTRY.get(name)
        if existing is not None and _origin(existing.build) != _origin(build):
            raise UsageError(f"two methods are called {name!r}; rename one of them.")
        _REGISTRY[name] = MethodEntry(name, build, paper, trains, settings)
        return build

    return register


def _origin(build: Build) -> tuple[str, str]:
    return build.__code__.co_filename, build.__qualname__


def get_method(name: str) -> MethodEntry:
    """The registered method; `UsageError` with the closest match if there is none."""
    methods = all_methods()
    if name not in methods:
        raise unknown_name("method", name, methods)
    return methods[name]


def all_methods() -> dict[str, MethodEntry]:
    """Every registered method, in the order in which the package defines them."""
    _import_families()
    return dict(_REGISTRY)


def parse_method(text: str) -> tuple[str, dict[str, Any]]:
    """A method and hyperparameters as typed: `margin` or `margin:beta=0.6,margin=0.1`."""
    name, _, rest = text.partition(":")
    hyperparameters = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{text!r}: write hyperparameters as {name}:NAME=VALUE,NAME=VALUE.")
        hyperparameters[key.strip()] = _literal(value.strip())
    return name.strip(), get_method(name.strip()).check(hyperparameters)


def prescribed(name: str) -> dict[str, Any]:
    """The run settings that the method's paper prescribes, checked against `RunSpec`."""
    known = {f.name for f in fields(RunSpec)}
    return {key: value for key, value in get_method(name).settings.items() if key in known}


def load_plugin(path: Path) -> None:
    """Register the methods of a user's own Python file; `UsageError` if it does not run."""
    specification = spec_from_file_location(f"oodml_plugin_{path.stem}", path)
    if not path.is_file() or specification is None or specification.loader is None:
        raise UsageError(f"plugin {path} is not a Python file.")
    try:
        specification.loader.exec_module(module_from_spec(specification))
    except OodmlError:
        raise
    except Exception as error:
        raise UsageError(f"plugin {path} does not run: {error!r}.") from None


@cache
def _import_families() -> None:
    package = import_module("oodml.train.methods")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        import_module(f"{package.__name__}.{module.name}")


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _like(default: Any, value: Any, what: str) -> Any:
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
