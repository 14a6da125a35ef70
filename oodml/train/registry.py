"""The registry of methods: one decorated class or function adds a loss."""

from __future__ import annotations

import inspect
import json
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from oodml.errors import OodmlError, UsageError, unknown_name
from oodml.train.published_recipes import NETWORKS, RECIPES

if TYPE_CHECKING:
    from oodml.train.objective import Criterion
    from oodml.train.published_recipes import Recipe

Build = Callable[..., Any]
Registered = TypeVar("Registered", bound=Build)
_REGISTRY: dict[str, MethodEntry] = {}
# How a method is trained: by optimiser steps, by one fit on all training features (in closed form
# or by its own algorithm), or not at all.
TRAINING = ("steps", "fit", "none")
# The settings that a paper may prescribe; all others are the user's to choose.
PRESCRIBABLE = (
    "batch_size",
    "batches",
    "cached_views",
    "clip_value",
    "criterion_learning_rate",
    "crop_scale",
    "decay",
    "decay_every",
    "flip",
    "learning_rate",
    "mix",
    "optimizer",
    "optimizer_epsilon",
    "pooling",
    "rerank",
    "samples_per_class",
    "schedule",
    "warmup_epochs",
    "weight_decay",
)


@dataclass(frozen=True)
class Base:
    """Another method's loss that a method builds on: a name and its hyperparameters."""

    name: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def criterion(
        self, num_classes: int, embedding_dim: int, *, takes_pairs: bool = False
    ) -> Criterion:
        """The base method's criterion; `UsageError` for a method that is more than a loss.

        With `takes_pairs` also `UsageError` for a loss that takes no pairs or triplets from its
        caller.
        """
        made = get_method(self.name).criterion(num_classes, embedding_dim, self.hyperparameters)
        if takes_pairs and not made.takes_pairs:
            raise UsageError(
                f"base={self.name} takes no given pairs; give a loss over pairs or triplets, such "
                "as margin, n_pair or triplet."
            )
        return made


@dataclass(frozen=True)
class MethodEntry:
    """A named method: how to build its criterion, its paper, and the paper's settings.

    `settings` apply to every run, `network` over them where the whole network is trained, `recipes`
    (by family of data: cub200, cars196, sop) over both. `source` says where the defaults come from.
    `heads` says which heads are trained and which of them retrieval uses, `needs` what the method
    requires beyond a labelled batch, such as a second view.
    """

    name: str
    build: Build
    paper: str
    training: str
    source: str
    settings: Mapping[str, Any]
    network: Mapping[str, Any]
    recipes: Mapping[str, Recipe]
    heads: str = "one"
    needs: str = ""

    @property
    def trains(self) -> bool:
        """Whether it is trained by optimiser steps."""
        return self.training == "steps"

    @property
    def family(self) -> str:
        """The module that defines the method: pairs, softmax, proxies, ..."""
        return self.build.__module__.rpartition(".")[2].removeprefix("oodml_plugin_")

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

        The hyperparameters of a base loss are written `base.NAME`. Raises `UsageError` for a name
        or a value that the method does not take.
        """
        own = {k: v for k, v in hyperparameters.items() if not k.startswith("base.")}
        changed = {}
        for name, value in own.items():
            if name not in self.hyperparameters:
                raise unknown_name(f"hyperparameter of {self.name}", name, self.hyperparameters)
            default = self.hyperparameters[name]
            if isinstance(default, Base):
                default, value = default.name, _base_entry(self, value).name
            value = like(default, value, f"{self.name}: {name}")
            if value != default:
                changed[name] = value
        return {**changed, **self._check_base(hyperparameters)}

    def _check_base(self, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
        of_base = {k[5:]: v for k, v in hyperparameters.items() if k.startswith("base.")}
        if not of_base:
            return {}
        if "base" not in self.hyperparameters:
            raise unknown_name(
                f"hyperparameter of {self.name}", f"base.{min(of_base)}", self.hyperparameters
            )
        base = get_method(self.base_name(hyperparameters) or "")
        return {f"base.{name}": value for name, value in base.check(of_base).items()}

    def base_name(self, hyperparameters: Mapping[str, Any]) -> str | None:
        """The method whose loss this one builds on, or None."""
        default = self.hyperparameters.get("base")
        if not isinstance(default, Base):
            return None
        return str(hyperparameters.get("base", default.name))

    def build_with(
        self, num_classes: int, embedding_dim: int, hyperparameters: Mapping[str, Any]
    ) -> Any:
        """Call the method's function with the hyperparameters of a run's spec."""
        own = {k: v for k, v in hyperparameters.items() if not k.startswith("base.")}
        base = self.base_name(hyperparameters)
        if base is not None:
            of_base = {k[5:]: v for k, v in hyperparameters.items() if k.startswith("base.")}
            own["base"] = Base(base, of_base)
        if _makes_objective(self.build):
            return partial(self.build, num_classes=num_classes, **own)
        return self.build(num_classes, embedding_dim, **own)

    def criterion(
        self, num_classes: int, embedding_dim: int, hyperparameters: Mapping[str, Any]
    ) -> Criterion:
        """The method as a loss; `UsageError` if it is more than a loss, or not trained."""
        from torch import nn

        from oodml.train.objective import as_criterion

        built = None
        if self.trains:
            built = self.build_with(num_classes, embedding_dim, hyperparameters)
        if not isinstance(built, nn.Module):
            raise UsageError(
                f"{self.name} is more than a loss; give a method that is only a loss, such as "
                "margin or multi_similarity."
            )
        return as_criterion(built)


def method(
    name: str,
    *,
    paper: str,
    training: str = "steps",
    source: str = "",
    heads: str = "one",
    needs: str = "",
    network: Mapping[str, Any] | None = None,
    recipes: Mapping[str, Recipe] | None = None,
    **settings: Any,
) -> Callable[[Registered], Registered]:
    """Register a class or a function under a name.

    A loss is a `torch.nn.Module` whose `__init__` takes (num_classes, embedding_dim, *,
    hyperparameters...), called with (embeddings, labels), or a `Criterion`, which declares what
    else it takes; or a function of the same arguments that returns one. A method with hooks of its
    own is a class of `Objective`, whose `__init__` takes (spec, model, num_classes, *,
    hyperparameters...). With `training="fit"` a function returns another one from training features
    (n, C) and labels (n,) to a module that maps features to embeddings; `training="none"` marks a
    method without any. `paper` is an arXiv number, a DOI or "-"; `settings` are run settings it
    prescribes, such as `samples_per_class=2`, `network` those for training whole networks, and
    `recipes` those by family of data; the package's own methods have both in `published_recipes`.
    `heads` and `needs` are for the table of methods: the heads, and what it asks for beyond a
    labelled batch. A hyperparameter `base: Base` makes the method work on any other method's loss.

    >>> @method("margin", paper="arXiv:1706.07567")
    ... def margin(num_classes, embedding_dim, *, margin=0.2, beta=1.2): ...
    """
    network = NETWORKS.get(name, {}) if network is None else network
    recipes = RECIPES.get(name, {}) if recipes is None else recipes
    if training not in TRAINING:
        raise unknown_name("way of training", training, TRAINING)
    for given in (settings, network, *(recipe.network for recipe in recipes.values())):
        for setting in sorted(set(given) - set(PRESCRIBABLE)):
            raise unknown_name("method setting", setting, PRESCRIBABLE)

    def register(build: Registered) -> Registered:
        existing = _REGISTRY.get(name)
        if existing is not None and _origin(existing.build) != _origin(build):
            raise UsageError(f"two methods are called {name!r}; rename one of them.")
        entry = MethodEntry(
            name, build, paper, training, source, settings, network, recipes, heads, needs
        )
        for recipe in recipes.values():
            entry.check(recipe.hyperparameters)
        _REGISTRY[name] = entry
        return build

    return register


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
        hyperparameters[key.strip()] = literal(value.strip())
    return name.strip(), get_method(name.strip()).check(hyperparameters)


def prescribed(
    name: str,
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    train: str = "head",
    recipe: str = "",
) -> dict[str, Any]:
    """The run settings that the method's paper prescribes, over those of its base loss."""
    entry = get_method(name)
    base = entry.base_name(hyperparameters or {})
    settings = prescribed(base, train=train, recipe=recipe) if base else {}
    settings |= entry.settings
    if train == "all":
        settings |= entry.network
        if recipe in entry.recipes:
            settings |= entry.recipes[recipe].network
    return settings


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


def literal(text: str) -> Any:
    """The number, boolean, list or quoted string that a text spells; otherwise the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def like(default: Any, value: Any, what: str) -> Any:
    """The value in its default's type; `UsageError` naming `what` if it has another one."""
    if isinstance(default, str) and isinstance(value, int | float) and not isinstance(value, bool):
        # targets=256 is parsed as a number but is a string.
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


def _makes_objective(build: Build) -> bool:
    """Whether the decorated object is an objective class, not one that returns a criterion."""
    from oodml.train.objective import Objective

    return isinstance(build, type) and issubclass(build, Objective)


def _origin(build: Build) -> tuple[str, str]:
    made = build.__init__ if isinstance(build, type) else build  # type: ignore[misc]
    return made.__code__.co_filename, build.__qualname__


@cache
def _import_families() -> None:
    package = import_module("oodml.train.methods")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        import_module(f"{package.__name__}.{module.name}")


def _base_entry(entry: MethodEntry, value: Any) -> MethodEntry:
    base = get_method(str(value))
    if not base.trains or base.base_name({}) is not None:
        raise UsageError(f"{entry.name}: base={value}: give a method that is only a loss.")
    return base
