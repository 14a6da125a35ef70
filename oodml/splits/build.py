"""build_ladder: walk a trajectory of splits in rising FID and choose rungs from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from oodml.errors import UsageError
from oodml.fid.shift import shift_of, split_terms
from oodml.fid.statistics import ClassMoments
from oodml.splits.ladder import Ladder, Step
from oodml.splits.removal import removal_step
from oodml.splits.settings import BuildSettings
from oodml.splits.sides import Classes, Sides
from oodml.splits.split import MIN_CLASSES_PER_SIDE, Split, random_split
from oodml.splits.swap import swap_step

if TYPE_CHECKING:
    from oodml.fid.features import Features

# The published ladders move 2% (CUB, Cars) to 9% (SOP) of a side's classes in one step.
SWAP_FRACTION = 0.02
# Cars, the only published ladder with known removals, ends at 62 of 98 classes a side.
KEPT_FRACTION = 0.6

OnStep = Callable[[Step], None]


def build_ladder(
    features: Features,
    *,
    rungs: int = 8,
    start: Split | None = None,
    seed: int = 0,
    train_fraction: float = 0.5,
    level: str = "sample",
    swap_size: int | None = None,
    min_classes: int | None = None,
    source: str = "",
    on_step: OnStep | None = None,
) -> Ladder:
    """A ladder of `rungs` splits, evenly spaced in FID from the start split to the hardest.

    From `start` (default: a seeded random split) whole classes change sides by the published
    rule as long as the exact FID rises, in steps of `swap_size` classes a side that are halved
    whenever a step does not raise it; then classes are removed from both sides in the same way
    until `min_classes` a side are left. `on_step` hears of every accepted step.

    `level` is "sample" (Gaussians fitted to all samples) or "class" (to the class means).
    Defaults: 2% of the smaller side a step, at least 60% of its classes kept.
    Raises `UsageError` for settings out of range or more rungs than distinct steps.
    """
    start = start or random_split(features.class_names, train_fraction=train_fraction, seed=seed)
    fewest = min(len(start.train_classes), len(start.test_classes))
    settings = BuildSettings(
        rungs=rungs,
        seed=seed,
        level=level,
        train_fraction=train_fraction,
        swap_size=swap_size if swap_size is not None else max(1, round(SWAP_FRACTION * fewest)),
        min_classes=(
            min_classes
            if min_classes is not None
            else max(MIN_CLASSES_PER_SIDE, round(KEPT_FRACTION * fewest))
        ),
    )
    _check(settings, fewest)
    statistics = ClassMoments.from_features(features, level=level)
    walk, stopped = _walk(statistics, start, settings, on_step or (lambda step: None))
    chosen = choose_evenly([step.fid for _, step in walk], rungs)
    return Ladder(
        features=features.source,
        source=source,
        class_sizes=_class_sizes(features),
        settings=settings,
        trajectory=tuple(step for _, step in walk),
        stopped=stopped,
        rung_steps=tuple(chosen),
        rungs=tuple(_measured(statistics, walk[i][0]) for i in chosen),
    )


def choose_evenly(fids: Sequence[float], rungs: int) -> list[int]:
    """The `rungs` indices of rising `fids`, first and last among them, nearest to even spacing.

    Minimises the summed distance to evenly spaced targets over all increasing choices.
    Raises `UsageError` if there are fewer FIDs than rungs.
    """
    if rungs > len(fids):
        raise UsageError(
            f"{rungs} rungs were asked for, but the trajectory has only {len(fids)} distinct "
            f"splits from FID {fids[0]:.4g} to {fids[-1]:.4g}; give a smaller --rungs or a smaller "
            "--swap-size."
        )
    values = np.asarray(fids)
    cost = np.abs(np.linspace(values[0], values[-1], rungs)[:, None] - values[None, :])
    cost[0, 1:] = cost[-1, :-1] = np.inf
    best = cost[0]
    came_from = []
    for row in cost[1:]:
        reachable = np.concatenate([[np.inf], np.minimum.accumulate(best)[:-1]])
        came_from.append([int(np.argmin(best[:i])) if i else 0 for i in range(len(best))])
        best = reachable + row
    chosen = [len(values) - 1]
    for previous in reversed(came_from):
        chosen.append(previous[chosen[-1]])
    return chosen[::-1]


def _check(settings: BuildSettings, fewest: int) -> None:
    if settings.rungs < 2:
        raise UsageError(f"{settings.rungs} rungs: a ladder needs at least 2.")
    if settings.level not in ("sample", "class"):
        raise UsageError(f"FID level {settings.level!r}: allowed are 'sample' and 'class'.")
    if fewest < MIN_CLASSES_PER_SIDE:
        raise UsageError(f"a side with {fewest} classes: at least {MIN_CLASSES_PER_SIDE}.")
    if not 1 <= settings.swap_size <= fewest:
        raise UsageError(f"swap size {settings.swap_size} is not between 1 and {fewest}.")
    if not MIN_CLASSES_PER_SIDE <= settings.min_classes <= fewest:
        raise UsageError(
            f"min classes {settings.min_classes} is not between {MIN_CLASSES_PER_SIDE} and the "
            f"{fewest} classes of the smaller side."
        )


def _walk(
    statistics: ClassMoments, start: Split, settings: BuildSettings, on_step: OnStep
) -> tuple[list[tuple[Sides, Step]], str]:
    """Every accepted split with its step, and the reason why the walk ended."""
    names = statistics.class_names
    sides = Sides.of(
        statistics, statistics.indices(start.train_classes), statistics.indices(start.test_classes)
    )
    walk = [(sides, Step("start", sides.fid))]
    on_step(walk[0][1])

    def accept(candidate: Sides, step: Step) -> None:
        walk.append((candidate, step))
        on_step(step)

    _swap_until_saturated(sides, settings, accept, names)
    stopped = _remove_until_fewest(walk[-1][0], settings, accept, names)
    return walk, stopped


Accept = Callable[[Sides, Step], None]


def _swap_until_saturated(
    sides: Sides, settings: BuildSettings, accept: Accept, names: Sequence[str]
) -> None:
    size = settings.swap_size
    while size:
        candidate, to_test, to_train = swap_step(sides, size)
        if candidate.fid > sides.fid:
            sides = candidate
            accept(sides, Step("swap", sides.fid, _names(names, to_test), _names(names, to_train)))
        else:
            size //= 2


def _remove_until_fewest(
    sides: Sides, settings: BuildSettings, accept: Accept, names: Sequence[str]
) -> str:
    size = settings.swap_size
    while size:
        spare = min(len(sides.train), len(sides.test)) - settings.min_classes
        if spare <= 0:
            return f"min classes {settings.min_classes} reached"
        candidate, removed = removal_step(sides, min(size, spare))
        if candidate.fid > sides.fid:
            sides = candidate
            accept(sides, Step("removal", sides.fid, removed=_names(names, removed)))
        else:
            size //= 2
    return "saturated"


def _names(names: Sequence[str], classes: Classes) -> tuple[str, ...]:
    return tuple(sorted(names[i] for i in classes))


def _measured(statistics: ClassMoments, sides: Sides) -> Split:
    """The split with its shift, summed up afresh and not along the trajectory."""
    terms = split_terms(statistics, sides.train, sides.test)
    names = statistics.class_names
    return Split(
        _names(names, sides.train),
        _names(names, sides.test),
        shift_of(statistics, sides.train, sides.test, terms),
    )


def _class_sizes(features: Features) -> dict[str, int]:
    counts = np.bincount(features.labels, minlength=len(features.class_names))
    return {name: int(n) for name, n in zip(features.class_names, counts, strict=True)}
