"""build_ladder: walk a trajectory of splits in rising FID and choose rungs from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from oodml.errors import DataError, UsageError, unknown_name
from oodml.fid.shift import shift_of
from oodml.fid.side_by_side import each, side_by_side
from oodml.fid.terms import split_terms
from oodml.splits.ladder import Ladder, Step
from oodml.splits.ladder_null import add_null
from oodml.splits.pool import Pool
from oodml.splits.procedure import PAIRS_A_STEP
from oodml.splits.rungs import choose_rungs
from oodml.splits.settings import PROCEDURES, SEARCHES, BuildSettings
from oodml.splits.sides import Sides, is_tight
from oodml.splits.split import MIN_CLASSES_PER_SIDE, Split
from oodml.splits.start import drawn_split
from oodml.splits.trajectory import trajectory
from oodml.splits.walk import Accept, State, forget

if TYPE_CHECKING:
    from oodml.features.features import Features

# The published ladders move 2% (CUB, Cars) to 9% (SOP) of a side's classes in one step.
SWAP_FRACTION = 0.02
# Cars, the only published ladder with known removals, ends at 62 of 98 classes a side.
KEPT_FRACTION = 0.6
# Exact distances that the search "best" may spend: some minutes on 1,800 classes of images.
BUDGET = 400

OnStep = Callable[[Step], None]


@side_by_side()
def build_ladder(
    features: Features,
    *,
    rungs: int = 8,
    fids: Sequence[float] = (),
    steps: Sequence[int] = (),
    start: Split | None = None,
    start_name: str = "given",
    seed: int = 0,
    train_fraction: float = 0.5,
    by: str = "class",
    level: str | None = None,
    procedure: str = "oodml",
    search: str = "published",
    budget: int | None = None,
    easier: bool = True,
    swap_size: int | None = None,
    min_classes: int | None = None,
    source: str = "",
    on_step: OnStep | None = None,
) -> Ladder:
    """A ladder of splits in strictly rising exact FID, from the easiest to the hardest reached.

    From `start` (default: a seeded random split) whole classes, or whole groups (`by`), change
    sides in steps of `swap_size` a side, halved whenever a step does not move FID the right way:
    towards easier splits (unless `easier` is False) and towards harder ones. Then units are removed
    from both sides in the same way until `min_classes` classes a side are left.

    `search` is "published" (the key of arXiv:2107.09562), "gain" (on from where that saturates, by
    the first-order change of FID under optimal transport) or "best" (then other starts, annealing
    and pairwise local search with `budget` more exact distances). `procedure` "milbich2021" takes
    the published way instead. `rungs` are evenly spaced in FID, or nearest to `fids`, or at `steps`
    counted from the start.

    `level` is "sample" (Gaussians fitted to all samples) or "class" (to the class means; the
    default of milbich2021). `on_step` hears of every accepted split. Defaults: 2% of the smaller
    side a step, at least 60% of its classes kept. Raises `UsageError` for settings out of range.
    """
    level = level or default_level(procedure)
    check_names(procedure, search, level, by)
    pool = Pool.of(features, level=level, by=by)
    drawn = start is None
    split = start or drawn_split(pool, by=by, train_fraction=train_fraction, seed=seed)
    begin = Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))
    settings = BuildSettings(
        rungs=len(fids) or len(steps) or rungs,
        seed=seed,
        level=level,
        train_fraction=train_fraction,
        swap_size=_swap_size(begin, procedure) if swap_size is None else swap_size,
        min_classes=_min_classes(split) if min_classes is None else min_classes,
        search=search,
        budget=(BUDGET if budget is None else budget) if search == "best" else 0,
        easier=easier,
        by=by,
        procedure=procedure,
        fids=tuple(sorted(map(float, fids))),
        steps=tuple(sorted(steps)),
        start="random" if drawn else start_name,
        start_train=() if drawn else split.train_classes,
        start_test=() if drawn else split.test_classes,
    )
    _check_ranges(settings, begin, split)
    states, origin, stopped = trajectory(begin, settings, _reporter(on_step))
    chosen = choose_rungs([state.fid for state in states], origin, settings)
    splits = each(lambda i: _measured(pool, states[i]), chosen)
    return Ladder(
        features=features.source,
        source=source,
        class_sizes=_class_sizes(features),
        settings=settings,
        trajectory=_steps(pool, states),
        stopped=stopped,
        rung_steps=tuple(chosen),
        rungs=tuple(splits),
    )


def rebuild_ladder(ladder: Ladder, features: Features) -> Ladder:
    """The ladder that the recorded settings give on `features`, null included: the same bytes.

    Raises `DataError` if the features are of other images or another network, or if the ladder was
    not built: imported splits and pairs of collections follow from no settings.
    """
    settings = ladder.settings
    if settings.start != "random" and not settings.start_train:
        raise DataError(
            f"this ladder was not built but made of given splits (start {settings.start!r}), which "
            "no settings give again; import or pair them anew."
        )
    if features.source != ladder.features:
        raise DataError("the features are not those that the ladder was built on.")
    given: dict[str, Any] = settings.to_json()
    train, test = given.pop("start_train"), given.pop("start_test")
    given["start_name"] = given.pop("start")
    start = Split(tuple(train), tuple(test)) if train else None
    rebuilt = build_ladder(features, start=start, source=ladder.source, **given)
    null = ladder.rungs[0].shift
    return add_null(rebuilt, features, null.null_draws) if null and null.null_draws else rebuilt


def _reporter(on_step: OnStep | None) -> Accept:
    if on_step is None:
        return forget
    return lambda state: on_step(Step(state.kind, state.fid))


def _swap_size(begin: Sides, procedure: str) -> int:
    if procedure == "milbich2021":
        return PAIRS_A_STEP
    return max(1, round(SWAP_FRACTION * min(len(begin.train), len(begin.test))))


def _min_classes(start: Split) -> int:
    fewest = min(len(start.train_classes), len(start.test_classes))
    return max(MIN_CLASSES_PER_SIDE, round(KEPT_FRACTION * fewest))


def default_level(procedure: str) -> str:
    """The FID level of a procedure: that of the published code for its own, else "sample"."""
    return "class" if procedure == "milbich2021" else "sample"


def check_names(procedure: str, search: str, level: str, by: str) -> None:
    """Raise `UsageError` for unknown names, and for those that do not go together."""
    if procedure not in PROCEDURES:
        raise unknown_name("procedure", procedure, PROCEDURES)
    if search not in SEARCHES:
        raise unknown_name("search", search, SEARCHES)
    if level not in ("sample", "class"):
        raise UsageError(f"FID level {level!r}: allowed are 'sample' and 'class'.")
    if procedure == "milbich2021" and (search, level, by) != ("published", "class", "class"):
        raise UsageError(
            "procedure milbich2021 is the published search of classes at class level; leave "
            "--search, --level and --by out."
        )


def _check_ranges(settings: BuildSettings, begin: Sides, start: Split) -> None:
    if settings.fids and settings.steps:
        raise UsageError("both --fids and --steps were given; rungs are chosen by one of them.")
    if settings.rungs < 2 and not (settings.fids or settings.steps):
        raise UsageError(f"{settings.rungs} rungs: a ladder needs at least 2.")
    if settings.budget < 0 or not np.isfinite(settings.fids).all():
        raise UsageError("budget and FIDs must be finite and not negative.")
    fewest = min(len(start.train_classes), len(start.test_classes))
    if fewest < MIN_CLASSES_PER_SIDE:
        raise UsageError(f"a side with {fewest} classes: at least {MIN_CLASSES_PER_SIDE}.")
    units = min(len(begin.train), len(begin.test))
    if not 1 <= settings.swap_size <= units:
        raise UsageError(f"swap size {settings.swap_size} is not between 1 and {units}.")
    if not MIN_CLASSES_PER_SIDE <= settings.min_classes <= fewest:
        raise UsageError(
            f"min classes {settings.min_classes} is not between {MIN_CLASSES_PER_SIDE} and the "
            f"{fewest} classes of the smaller side."
        )


def _steps(pool: Pool, states: Sequence[State]) -> tuple[Step, ...]:
    """What changed from each split to the next, by class names."""
    steps = [Step(states[0].kind, states[0].fid)]
    for before, after in pairwise(states):
        left = np.setdiff1d(
            np.union1d(before.train, before.test), np.union1d(after.train, after.test)
        )
        steps.append(
            Step(
                after.kind,
                after.fid,
                to_test=pool.names(np.intersect1d(before.train, after.test)),
                to_train=pool.names(np.intersect1d(before.test, after.train)),
                removed=pool.names(left),
            )
        )
    return tuple(steps)


def _measured(pool: Pool, state: State) -> Split:
    terms = state.terms
    if not is_tight(terms):
        terms = split_terms(pool.statistics, state.train, state.test)
    shift = shift_of(pool.statistics, state.train, state.test, terms)
    return Split(pool.names(state.train), pool.names(state.test), shift)


def _class_sizes(features: Features) -> dict[str, int]:
    counts = np.bincount(features.labels, minlength=len(features.class_names))
    return {name: int(n) for name, n in zip(features.class_names, counts, strict=True)}
