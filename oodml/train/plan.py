"""plan: the grid of methods x rungs x seeds as run specs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from oodml.errors import UsageError, unknown_name
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split
from oodml.store import RunSpec
from oodml.train.registry import get_method, parse_method, prescribed

# What a user may set for a whole grid; the rest of a spec follows from ladder and method.
GRID_SETTINGS = (
    "embedding_dim",
    "steps",
    "batch_size",
    "samples_per_class",
    "learning_rate",
    "criterion_learning_rate",
    "weight_decay",
    "gallery_classes",
    "gallery_images",
)
_MAY_BE_ZERO = ("steps", "weight_decay", "gallery_classes", "gallery_images")
# What is set for methods that train nothing, too.
_OF_EVALUATION = ("gallery_classes", "gallery_images")
# Fine-tuning whole networks: the shared defaults of arXiv:2002.08473 and arXiv:2107.09562.
_WHOLE_NETWORK = {
    "learning_rate": 1e-5,
    "criterion_learning_rate": 5e-4,
    "weight_decay": 4e-4,
    "samples_per_class": 2,
}


def plan(
    ladder: Ladder,
    methods: Sequence[str],
    seeds: Sequence[int],
    *,
    train: str = "head",
    rungs: Sequence[int] | None = None,
    controls: bool = False,
    **settings: Any,
) -> list[RunSpec]:
    """One spec per method, rung and seed; a method without training has a single seed.

    `methods` are written as on the command line, `margin` or `margin:beta=0.6`. `train` is
    "head" or "all". `controls` adds the same runs on the size-matched control of every rung.
    `settings` (see `GRID_SETTINGS`) win over what a method's paper prescribes,
    which wins over the defaults. Seeds come first, so that whole curves exist early.
    Raises `UsageError` for unknown methods, hyperparameters, settings or rungs, or when the ladder
    has no controls.
    """
    if train not in ("head", "all"):
        raise UsageError(f"train={train!r}: allowed are 'head' and 'all'.")
    for name in settings:
        if name not in GRID_SETTINGS:
            raise unknown_name("setting", name, GRID_SETTINGS)
    _check_positive(settings)
    splits = _splits(ladder, _rung_numbers(ladder, rungs), controls)
    parsed = [parse_method(text) for text in methods]
    specs: dict[str, RunSpec] = {}
    for seed in seeds:
        for split in splits:
            for name, hyperparameters in parsed:
                base = _base(ladder, split)
                spec = _of_method(base, name, hyperparameters, train, seed, settings)
                specs.setdefault(spec.id, spec)
    return list(specs.values())


def _splits(ladder: Ladder, rungs: Sequence[int], controls: bool) -> list[Split]:
    if controls and not ladder.controls:
        raise UsageError(
            "this ladder has no controls; build it again with `oodml ladder build --controls`."
        )
    chosen = [ladder.rungs[rung] for rung in rungs]
    return chosen + [ladder.controls[rung] for rung in rungs if controls]


def _base(ladder: Ladder, split: Split) -> RunSpec:
    source = ladder.features
    return RunSpec(
        dataset=source.dataset,
        fingerprint=source.fingerprint,
        split=split.id,
        method="",
        backbone=source.backbone,
        weights=source.weights,
        preprocessing=source.preprocessing,
        precision=source.precision,
    )


def _of_method(
    base: RunSpec,
    name: str,
    hyperparameters: Mapping[str, Any],
    train: str,
    seed: int,
    settings: Mapping[str, Any],
) -> RunSpec:
    if not get_method(name).trains:
        kept = {key: settings[key] for key in _OF_EVALUATION if key in settings}
        return replace(base, method=name, train="none", **kept)
    defaults = _WHOLE_NETWORK if train == "all" else {}
    return replace(
        base,
        method=name,
        hyperparameters=dict(hyperparameters),
        train=train,
        seed=seed,
        # Networks are trained in float32; the precision names how frozen features were made.
        precision="fp32" if train == "all" else base.precision,
        **{**defaults, **prescribed(name), **settings},
    )


def _check_positive(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        lowest_allowed = value >= 0 if name in _MAY_BE_ZERO else value > 0
        if not (lowest_allowed and math.isfinite(value)):
            option = "train-batch-size" if name == "batch_size" else name.replace("_", "-")
            least = "of at least 0" if name in _MAY_BE_ZERO else "above 0"
            raise UsageError(f"--{option} {value} is out of range; give a number {least}.")


def _rung_numbers(ladder: Ladder, rungs: Sequence[int] | None) -> list[int]:
    numbers = list(range(len(ladder.rungs)))
    for rung in rungs or []:
        if rung not in numbers:
            raise UsageError(f"rung {rung}: this ladder has rungs 0 to {len(numbers) - 1}.")
    return sorted(set(rungs)) if rungs else numbers
