"""Search spaces: what may be tuned of a method, and between which bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from oodml.errors import UsageError, unknown_name
from oodml.runs.spec import RunSpec
from oodml.train.loop import seeded
from oodml.train.model import EmbeddingModel
from oodml.train.objective import make_objective
from oodml.train.registry import Base, get_method, literal
from oodml.train.settings import SETTINGS

# How far the default of a hyperparameter, and that of a learning rate, is left on either side.
FACTOR = 4
RATE_FACTOR = 10
RATES = ("learning_rate", "criterion_learning_rate")
# Settings of a run that may be searched; everything else is the fixed budget.
TUNABLE = (*RATES, "weight_decay")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`.

    Whole ones if both are; spread evenly over their logarithm if `low` is above 0.
    """

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def logarithmic(self) -> bool:
        """Whether factors count, not differences."""
        return self.low > 0

    def holds(self, value: Any) -> bool:
        """Whether it is one of these numbers."""
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


@dataclass(frozen=True)
class Choices:
    """Values to choose from, none nearer to one than to another."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether it is one of these values."""
        return value in self.values

    def __str__(self) -> str:
        words = [v if isinstance(v, str) else json.dumps(v) for v in self.values]
        return "|".join(words)


Domain = Range | Choices
Space = dict[str, Domain]


def default_space(spec: RunSpec, num_classes: int, *, fixed: Iterable[str] = ()) -> Space:
    """What is searched around the setting `spec`, by name; `fixed` names what stays as it is.

    Numbers above 0 are searched within a factor of `FACTOR`, whole ones not below 1, those below 1
    not beyond it, which suits shares and margins; switches both ways. Numbers that are 0 or
    below, words and base losses stay. Learning rates are searched within a factor of
    `RATE_FACTOR`, that of the criterion only if the method has parameters that take it.
    """
    entry = get_method(spec.method.name)
    values = settings_of(spec, entry.hyperparameters)
    space = {name: _around(value) for name, value in values.items()}
    for name in _rates(spec, num_classes):
        rate = spec.setting(name)
        space[name] = Range(_rounded(rate / RATE_FACTOR), _rounded(rate * RATE_FACTOR))
    left = set(fixed)
    return {name: domain for name, domain in space.items() if domain and name not in left}


def _around(value: Any) -> Domain | None:
    if isinstance(value, bool):
        return Choices((value, not value))
    if not isinstance(value, int | float) or value <= 0:
        return None
    if isinstance(value, int):
        return Range(max(1, round(value / FACTOR)), value * FACTOR)
    high = _rounded(value * FACTOR)
    return Range(_rounded(value / FACTOR), min(high, 1.0) if value < 1 else high)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _rates(spec: RunSpec, num_classes: int) -> tuple[str, ...]:
    """The learning rates that training the method takes."""
    if spec.model.train == "none" or not get_method(spec.method.name).trains:
        return ()
    other = spec.with_settings(criterion_learning_rate=2 * spec.training.criterion_learning_rate)
    takes_both = _taken(spec, num_classes) != _taken(other, num_classes)
    return RATES if takes_both else RATES[:1]


def _taken(spec: RunSpec, num_classes: int) -> list[float]:
    """The learning rates of all parameters of a method, over a stand-in for the network."""
    with seeded(0, "rates"):
        built = get_method(spec.method.name).build_with(
            num_classes, spec.model.embedding_dim, spec.method.hyperparameters
        )
        model = EmbeddingModel(nn.Identity(), 8, spec.model.embedding_dim)
        objective = make_objective(built, spec, model)
        own = [
            group["lr"]
            for optimizer in objective.private_optimizers().values()
            for group in optimizer.param_groups
        ]
        return [group.learning_rate for group in objective.parameter_groups()] + own


def parse_domain(text: str) -> tuple[str, Domain]:
    """A name and what it is searched over, as typed: `beta=0.2..2` or `soft=true|false`."""
    name, equals, rest = text.partition("=")
    name = name.strip().replace("-", "_")
    if equals and ".." in rest:
        ends = [_number(end) for end in rest.split("..", 1)]
        if None not in ends and ends[0] <= ends[1]:
            return name, Range(*ends)
    elif equals and rest.strip():
        return name, Choices(tuple(literal(value.strip()) for value in rest.split("|")))
    raise UsageError(f"domain {text!r}: write NAME=LOW..HIGH with LOW at most HIGH, or NAME=A|B|C.")


def with_domains(space: Space, spec: RunSpec, given: Mapping[str, Domain]) -> Space:
    """The space with the user's own domains, which win over the default ones.

    Raises `UsageError` for a name or a value that neither the method nor the run takes.
    """
    return {**space, **{name: _checked(spec, name, domain) for name, domain in given.items()}}


def _checked(spec: RunSpec, name: str, domain: Domain) -> Domain:
    if isinstance(domain, Choices):
        return Choices(tuple(_value(spec, name, value) for value in domain.values))
    return Range(_value(spec, name, domain.low), _value(spec, name, domain.high))


def _value(spec: RunSpec, name: str, value: Any) -> Any:
    """The value in the type that the run keeps it in."""
    return settings_of(applied(spec, {name: value}), [name])[name]


def applied(spec: RunSpec, values: Mapping[str, Any]) -> RunSpec:
    """The spec with other hyperparameters, rates or weight decay, all of them checked."""
    entry = get_method(spec.method.name)
    own = {name: value for name, value in values.items() if not is_setting(name, spec)}
    for name in values:
        if name not in searchable(spec):
            raise unknown_name(f"name to search for {spec.method.name}", name, searchable(spec))
    settings: dict[str, Any] = {
        name: _number_for(name, value) for name, value in values.items() if name not in own
    }
    hyperparameters = entry.check({**spec.method.hyperparameters, **own})
    return spec.with_settings(hyperparameters=hyperparameters, **settings)


def searchable(spec: RunSpec) -> list[str]:
    """The names that may be searched: hyperparameters, those of a base loss, and settings."""
    entry = get_method(spec.method.name)
    settings = TUNABLE if entry.trains and spec.model.train != "none" else ()
    return [*entry.hyperparameters, *(f"base.{name}" for name in _of_base(spec)), *settings]


def _number_for(name: str, value: Any) -> float:
    if isinstance(value, bool | str):
        raise UsageError(f"{name}={value}: give a number.")
    SETTINGS[name].check(value)
    return float(value)


def settings_of(spec: RunSpec, names: Iterable[str]) -> dict[str, Any]:
    """The values that a spec has of what may be searched, defaults included."""
    entry = get_method(spec.method.name)
    known = {f"base.{name}": value for name, value in _of_base(spec).items()}
    known |= {**entry.hyperparameters, **spec.method.hyperparameters}
    found = {name: spec.setting(name) if is_setting(name, spec) else known[name] for name in names}
    return {name: v.name if isinstance(v, Base) else v for name, v in found.items()}


def _of_base(spec: RunSpec) -> dict[str, Any]:
    base = get_method(spec.method.name).base_name(spec.method.hyperparameters)
    if base is None:
        return {}
    default = get_method(spec.method.name).hyperparameters["base"]
    own = default.hyperparameters if default.name == base else {}
    return {**get_method(base).hyperparameters, **own}


def is_setting(name: str, spec: RunSpec) -> bool:
    """Whether a searched name is one of the run's settings, not one of its hyperparameters."""
    return name in TUNABLE and name not in get_method(spec.method.name).hyperparameters


def _number(text: str) -> Any:
    value = literal(text.strip())
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return value if usable and math.isfinite(value) else None
