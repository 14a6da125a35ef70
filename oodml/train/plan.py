"""plan: run specs of methods x rungs x seeds, their order, and filters over them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from oodml.errors import UsageError, unknown_name
from oodml.features.features import FeatureSource
from oodml.runs.spec import ModelSpec, RunSpec
from oodml.splits.ladder import Ladder
from oodml.splits.reference import check_reference
from oodml.splits.split import Split
from oodml.train.loop import check_schedule, seeded
from oodml.train.model import EmbeddingModel
from oodml.train.models import Backbones, Weights, models_of
from oodml.train.objective import Criterion, make_objective
from oodml.train.published_protocols import FAMILIES, get_preset
from oodml.train.published_recipes import WHOLE_NETWORK
from oodml.train.registry import get_method, parse_method, prescribed
from oodml.train.settings import applying, check_scope, check_settings

TRAINED = ("head", "all")
# "curves": all methods and rungs with the first seed, then with the next one.
# "seeds": all seeds of a method on a rung before the next.
ORDERS = ("curves", "seeds")
# The method that trains nothing, which a reference compares with.
FROZEN = "frozen"
# Classes of a loss that is built only to see whether it fits.
_FEW_CLASSES = 8
_KEYS = ("method", "backbone", "rung", "seed")


@dataclass(frozen=True)
class Wishes:
    """A user's choices beyond methods, rungs and seeds.

    `train` is "head", "all" or "" for the protocol's. `recipe` names the family of data whose
    published settings are used; "auto" follows the ladder's dataset where whole networks are
    trained, "" uses none.
    """

    train: str = ""
    preset: str = ""
    recipe: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.train not in ("", *TRAINED):
            raise UsageError(f"train={self.train!r}: allowed are 'head' and 'all'.")
        if self.recipe not in ("", "auto", *FAMILIES):
            raise unknown_name("recipe", self.recipe, ("auto", *FAMILIES))
        check_settings(self.settings)
        check_scope(self.settings, self.trained)
        self._check_together()

    @property
    def trained(self) -> str:
        """What is trained: "head" or "all"."""
        if self.train or not self.preset:
            return self.train or "head"
        return str(get_preset(self.preset).settings["train"])

    def _check_together(self) -> None:
        given = self.settings
        if given.get("epochs") and given.get("steps"):
            raise UsageError("epochs and steps exclude each other; give one of them.")
        if given.get("folds", 1) > 1 and given.get("ensemble", 1) > 1:
            raise UsageError("folds and ensemble exclude each other; give one of them.")
        if given.get("few_shot") and max(given.get("folds", 1), given.get("ensemble", 1)) > 1:
            raise UsageError("few_shot adapts a single model; leave out folds and ensemble.")
        if given.get("few_shot") and given.get("mix"):
            raise UsageError("mix and few_shot exclude each other; give one of them.")
        if given.get("few_shot_criterion"):
            name, hyperparameters = parse_method(given["few_shot_criterion"])
            get_method(name).criterion(2, 4, hyperparameters)


def plan(
    ladder: Ladder,
    methods: Sequence[str],
    seeds: Sequence[int],
    *,
    backbone: Backbones = None,
    weights: Weights = None,
    train: str = "",
    preset: str = "",
    recipe: str = "auto",
    rungs: Sequence[int] | None = None,
    reference: bool = False,
    reference_null: int = 0,
    **settings: Any,
) -> list[RunSpec]:
    """One spec per model, method, rung and seed; a method without randomness has a single seed.

    `backbone` names the models that are frozen, get a head or are trained whole, one or several,
    and `weights` their files, as in `models_of`; without it that is the network that measured the
    ladder. `reference` adds the matched reference (see `oodml.splits.reference`): a matched and a
    shifted run for every method, rung and seed, and the untrained network on the same halves.
    `reference_null` adds so many random splits of every rung's classes, one seed each.

    `methods` are written as on the command line, `margin` or `margin:beta=0.6`. `train` is "head"
    or "all", `preset` the name of a published protocol, `recipe` as in `Wishes`. `settings` (see
    `SETTINGS`) override the protocol, which overrides what a method's paper prescribes, which
    overrides the defaults. Specs are ordered by seed, so that whole curves exist early. Raises
    `UsageError` for unknown methods, hyperparameters, settings or rungs, for settings that exclude
    each other, and for rungs with too few test classes for a reference.
    """
    wishes = Wishes(train, preset, recipe, settings)
    if reference_null and not reference:
        raise UsageError(f"reference_null={reference_null} goes with reference=True.")
    numbers = _rung_numbers(ladder, rungs)
    if reference:
        check_reference(ladder, numbers)
    splits = [ladder.rungs[rung] for rung in numbers]
    parsed = [parse_method(text) for text in methods]
    family = family_of(ladder.features.dataset, wishes)
    sources = [model.source for model in models_of(ladder.features, backbone, weights)]
    patterns = [
        _of_method(source, name, given, wishes, family)
        for source in sources
        for name, given in parsed
    ]
    untrained = [_of_method(source, FROZEN, {}, wishes, family) for source in sources]
    specs: dict[str, RunSpec] = {}
    for seed in seeds:
        for split in splits:
            for pattern in patterns:
                own = seed if get_method(pattern.method.name).trains else 0
                spec = pattern.with_settings(split=split.id, seed=own)
                specs.setdefault(spec.id, spec)
        if reference:
            specs |= _references([*patterns, *untrained], splits, seed)
    draws = range(1, reference_null + 1)
    trained = [pattern for pattern in patterns if pattern.model.train != "none"]
    for draw in draws:
        specs |= _references(trained, splits, draw - 1, null_draw=draw)
    return list(specs.values())


def ordered(specs: Sequence[RunSpec], order: str) -> list[RunSpec]:
    """The runs in one of `ORDERS`, otherwise unchanged; `UsageError` for an unknown order."""
    if order not in ORDERS:
        raise unknown_name("order", order, ORDERS)
    if order == "curves":
        return sorted(specs, key=lambda spec: spec.seed)
    places: dict[tuple[str, ModelSpec, str], int] = {}
    for spec in specs:
        places.setdefault((spec.data.split, spec.model, spec.label), len(places))
    return sorted(
        specs, key=lambda spec: (places[spec.data.split, spec.model, spec.label], spec.seed)
    )


def filtered(specs: Sequence[RunSpec], ladder: Ladder, text: str) -> list[RunSpec]:
    """The runs that a filter such as `method=margin,arcface,rung=0-3` leaves.

    Keys are method, backbone, rung and seed; a method is named with or without its hyperparameters,
    and its name leaves its reference runs too. Raises
    `UsageError` for another key, a number that is none, or a filter that leaves nothing.
    """
    tests = [_test(key, values, ladder) for key, values in _parsed(text).items()]
    left = [spec for spec in specs if all(test(spec) for test in tests)]
    if not left:
        methods = ", ".join(sorted({spec.method.name for spec in specs}))
        raise UsageError(
            f"the filter {text} leaves none of {len(specs)} runs; they are of {methods} on rungs 0 "
            f"to {len(ladder.rungs) - 1}."
        )
    return left


def numbers_in(text: str, what: str) -> list[int]:
    """The numbers of "0-3" or "2"; `UsageError` naming `what` for anything else."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match is None:
        raise UsageError(f"{what} {text!r} is not a number; write it as 2 or 0-3.")
    first = int(match[1])
    return list(range(first, int(match[2] or first) + 1))


def family_of(dataset: str, wishes: Wishes) -> str:
    """The family of data whose published settings apply to a collection, or ""."""
    if wishes.recipe != "auto":
        return wishes.recipe
    if wishes.trained != "all":
        return ""
    return next((family for family in FAMILIES if dataset.startswith(family)), "")


def _of_method(
    source: FeatureSource,
    name: str,
    hyperparameters: Mapping[str, Any],
    wishes: Wishes,
    family: str,
) -> RunSpec:
    """A method's spec, without a split, with seed 0."""
    entry = get_method(name)
    train = wishes.trained
    if entry.training == "none":
        return RunSpec.on(source, "", name, train="none", **applying(wishes.settings, "none"))
    given = {**_published(name, hyperparameters, wishes, family), **hyperparameters}
    known = entry.check(given)
    if entry.training == "fit":
        kept = {**applying(wishes.settings, "none"), "steps": 0}
        kept |= {k: v for k, v in wishes.settings.items() if k == "embedding_dim"}
        return RunSpec.on(source, "", name, hyperparameters=known, **kept)
    chosen = _settings(name, known, wishes, family)
    if chosen.get("epochs"):
        chosen["steps"] = 0
    spec = RunSpec.on(
        source,
        "",
        name,
        hyperparameters=known,
        train=train,
        preset=wishes.preset,
        # Networks are trained in float32; `precision` is that of extracted features.
        precision="fp32" if train == "all" else source.precision,
        **chosen,
    )
    check_schedule(spec.training)
    _check_accumulation(spec)
    _check_views(spec)
    _check_base(spec)
    return spec


def _references(
    patterns: Sequence[RunSpec], splits: Sequence[Split], seed: int, null_draw: int = 0
) -> dict[str, RunSpec]:
    """The runs on halves of every method and split, by id."""
    runs = [
        pattern.with_settings(split=split.id, seed=seed, trained_on=side, null_draw=null_draw)
        for split in splits
        for pattern in patterns
        for side in (("nothing",) if pattern.model.train == "none" else ("shifted", "matched"))
    ]
    return {run.id: run for run in runs}


def _published(name: str, given: Mapping[str, Any], wishes: Wishes, family: str) -> dict[str, Any]:
    """The hyperparameters that the recipe and the protocol set for a method.

    Published ones do not apply to another base loss, given by the user.
    """
    recipe = get_method(name).recipes.get(family)
    published = dict(recipe.hyperparameters) if recipe else {}
    if wishes.preset:
        published |= get_preset(wishes.preset).hyperparameters_for(name, family)
    if get_method(name).base_name({}) and "base" in given:
        published = {k: v for k, v in published.items() if k.partition(".")[0] != "base"}
    return published


def _settings(
    name: str, hyperparameters: Mapping[str, Any], wishes: Wishes, family: str
) -> dict[str, Any]:
    train = wishes.trained
    defaults = dict(WHOLE_NETWORK) if train == "all" else {}
    defaults |= prescribed(name, hyperparameters, train=train, recipe=family)
    if wishes.preset:
        # A protocol replaces all of a recipe's settings but the cached views, which methods need.
        defaults |= get_preset(wishes.preset).settings_for(name, family)
        defaults.pop("train")
    if wishes.settings.get("few_shot"):
        # mix and few_shot exclude each other.
        defaults.pop("mix", None)
    return {**applying(defaults, train), **applying(wishes.settings, train)}


def _check_accumulation(spec: RunSpec) -> None:
    if spec.training.accumulation == 1:
        return
    built = get_method(spec.method.name).build_with(2, 4, spec.method.hyperparameters)
    if not (isinstance(built, Criterion) and built.samplewise):
        raise UsageError(
            f"accumulation={spec.training.accumulation}: {spec.label} compares the samples of a "
            "batch with each other, so parts of it have another loss than the whole; use a smaller "
            "batch_size, or a loss of single samples such as arcface."
        )


def _check_views(spec: RunSpec) -> None:
    wanted = prescribed(spec.method.name, spec.method.hyperparameters).get("cached_views", 0)
    if spec.model.train == "head" and spec.training.cached_views < min(wanted, 2):
        raise UsageError(
            f"cached_views={spec.training.cached_views}: {spec.label} compares two augmented views "
            f"of an image; give at least 2, leave it out for {wanted}, or give train='all'."
        )


def _check_base(spec: RunSpec) -> None:
    """Build a method on another's loss, which refuses a loss or sizes that do not fit it."""
    entry, size = get_method(spec.method.name), spec.model.embedding_dim
    if entry.base_name(spec.method.hyperparameters) is None:
        return
    with seeded(0, "plan"):
        built = entry.build_with(_FEW_CLASSES, size, spec.method.hyperparameters)
        make_objective(built, spec, EmbeddingModel(nn.Identity(), size, size))


def _rung_numbers(ladder: Ladder, rungs: Sequence[int] | None) -> list[int]:
    numbers = list(range(len(ladder.rungs)))
    for rung in rungs or []:
        if rung not in numbers:
            raise UsageError(f"rung {rung}: this ladder has rungs 0 to {len(numbers) - 1}.")
    return sorted(set(rungs)) if rungs else numbers


def _parsed(text: str) -> dict[str, list[str]]:
    """The values of every key; a part without a key belongs to the previous key."""
    found: dict[str, list[str]] = {}
    key = ""
    for part in text.split(","):
        # The equals sign of a hyperparameter, margin(beta=0.6), follows a bracket.
        name, equals, value = part.partition("=")
        if equals and "(" not in name:
            key = name.strip()
            if key not in _KEYS:
                raise unknown_name("key of a filter", key, _KEYS)
        else:
            value = part
        if not key:
            raise UsageError(f"filter {text!r}: write it as method=margin,rung=0-3.")
        found.setdefault(key, []).append(value.strip())
    return found


def _test(key: str, values: Sequence[str], ladder: Ladder) -> Callable[[RunSpec], bool]:
    if key == "method":
        return lambda spec: not {spec.method.name, spec.plain.label, spec.label}.isdisjoint(values)
    if key == "backbone":
        return lambda spec: spec.model.backbone in values
    numbers = {number for value in values for number in numbers_in(value, f"the filter's {key}")}
    if key == "seed":
        return lambda spec: spec.seed in numbers
    ids = {ladder.rungs[number].id for number in numbers if number < len(ladder.rungs)}
    return lambda spec: spec.data.split in ids
