"""`build_ladder`: a trajectory of splits in rising FID, and the rungs chosen from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from oodml.errors import DataError, UsageError, unknown_name
from oodml.features.features import Features, require_distinct
from oodml.fid.shift import shift_between
from oodml.parallel import each, side_by_side
from oodml.splits.construction.milbich2021 import PAIRS_A_STEP
from oodml.splits.construction.rungs import choose_rungs
from oodml.splits.construction.search import OnStep, trajectory
from oodml.splits.construction.start import drawn_split
from oodml.splits.construction.state import Pool, Sides, State, is_tight
from oodml.splits.ladder import SEARCHES, BuildSettings, Ladder, Step
from oodml.splits.measure import add_null, check_null, check_source
from oodml.splits.split import MIN_CLASSES_PER_SIDE, Split

# The published ladders move 2% (CUB, Cars) to 9% (SOP) of a side's classes in one step.
SWAP_FRACTION = 0.02
# Cars, the only published ladder with known removals, ends at 62 of 98 classes a side.
KEPT_FRACTION = 0.6
# Rungs, unless their FIDs or steps are named.
RUNGS = 8
# Exact distances that the search "best" may spend: some minutes on 1,800 classes of images.
BUDGET = 400


@side_by_side()
def build_ladder(
    features: Features,
    *,
    rungs: int | None = None,
    fids: Sequence[float] = (),
    steps: Sequence[int] = (),
    start: Split | None = None,
    start_name: str = "given",
    seed: int = 0,
    train_fraction: float = 0.5,
    by: str = "class",
    level: str | None = None,
    search: str = "means",
    budget: int | None = None,
    easier: bool = True,
    swap_size: int | None = None,
    min_classes: int | None = None,
    null: int = 20,
    source: str = "",
    on_step: OnStep | None = None,
) -> Ladder:
    """A ladder of splits in strictly rising exact FID, from the easiest to the hardest reached.

    From `start` (default: a seeded random split) whole classes, or whole groups (`by`), change
    sides in steps of `swap_size` a side, halved whenever a step does not move FID the right way:
    towards easier splits (unless `easier` is False) and towards harder ones. Then units are removed
    from both sides in the same way until `min_classes` classes a side are left.

    `search` says what decides which classes move: "means" (the key of arXiv:2107.09562),
    "transport" (and, where that saturates, by the first-order change of FID under optimal
    transport), "best" (then other starts, annealing and pairwise local search with `budget` more
    exact distances) or "milbich2021" (the published construction instead of this walk).

    Eight `rungs` are evenly spaced in FID, or another number of them; or they lie nearest to
    `fids`, or at `steps` counted from the start. Each rung is compared with `null` random splits
    of its own classes; 0 leaves that out.

    `level` is "sample" (Gaussians fitted to all samples) or "class" (to the class means; the
    default of milbich2021). `on_step` is called with every accepted split. Defaults: 2% of the
    smaller side a step, at least 60% of its classes kept. Raises `UsageError` for settings out of
    range, and for those that would have no effect beside others, `DataError` for constant features.
    """
    level = level or ("class" if search == "milbich2021" else "sample")
    check_choices(search, level, by, rungs=rungs, fids=fids, steps=steps, budget=budget, null=null)
    require_distinct(features)
    pool = Pool.of(features, level=level, by=by)
    drawn = start is None
    split = start or drawn_split(pool, by=by, train_fraction=train_fraction, seed=seed)
    begin = Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))
    settings = BuildSettings(
        rungs=len(fids) or len(steps) or (RUNGS if rungs is None else rungs),
        seed=seed,
        level=level,
        train_fraction=train_fraction,
        swap_size=_swap_size(begin, search) if swap_size is None else swap_size,
        min_classes=_min_classes(split) if min_classes is None else min_classes,
        search=search,
        budget=(BUDGET if budget is None else budget) if search == "best" else 0,
        easier=easier,
        by=by,
        fids=tuple(sorted(map(float, fids))),
        steps=tuple(sorted(steps)),
        start="random" if drawn else start_name,
        start_train=() if drawn else split.train_classes,
        start_test=() if drawn else split.test_classes,
    )
    _check_sizes(settings, begin, split)
    states, origin, stopped = trajectory(begin, settings, on_step)
    chosen = choose_rungs([state.fid for state in states], origin, settings)
    splits = each(lambda i: _measured(pool, states[i]), chosen)
    ladder = Ladder(
        features=features.source,
        source=source,
        class_sizes=features.class_sizes,
        settings=settings,
        trajectory=_steps(pool, states),
        stopped=stopped,
        rung_steps=tuple(chosen),
        rungs=tuple(splits),
    )
    return add_null(ladder, features, null) if null else ladder


def rebuild_ladder(ladder: Ladder, features: Features) -> Ladder:
    """The ladder rebuilt on `features` from its recorded settings, null included: the same bytes.

    Raises `DataError` if the features are of other images or another network, or if the ladder was
    not built on its ruler: imported splits, pairs of collections and splits that were chosen under
    another network follow from no settings.
    """
    settings = ladder.settings
    if ladder.former is not None:
        raise DataError(
            f"this ladder was not built under {ladder.features.backbone} but under "
            f"{ladder.former.features.backbone}; rebuild the ladder that was measured anew."
        )
    if settings.start != "random" and not settings.start_train:
        raise DataError(
            f"this ladder was not built but made of given splits (start {settings.start!r}), which "
            "no settings give again; import or pair them anew."
        )
    check_source(ladder, features)
    given: dict[str, Any] = settings.to_json()
    train, test = given.pop("start_train"), given.pop("start_test")
    given["start_name"] = given.pop("start")
    if settings.fids or settings.steps:
        del given["rungs"]
    if settings.search != "best":
        del given["budget"]
    start = Split(tuple(train), tuple(test)) if train else None
    shift = ladder.rungs[0].shift
    null = (shift.null_draws if shift else None) or 0
    return build_ladder(features, start=start, source=ladder.source, null=null, **given)


def check_choices(
    search: str,
    level: str | None,
    by: str,
    *,
    rungs: int | None = None,
    fids: Sequence[float] = (),
    steps: Sequence[int] = (),
    budget: int | None = None,
    null: int = 0,
) -> None:
    """Raise `UsageError` for arguments of `build_ladder` that are wrong on any features.

    Unknown names, numbers out of range, and what would have no effect beside the rest.
    """
    if search not in SEARCHES:
        raise unknown_name("search", search, SEARCHES)
    if level not in (None, "sample", "class"):
        raise UsageError(f"FID level {level!r}: allowed are 'sample' and 'class'.")
    if search == "milbich2021" and (level == "sample" or by != "class"):
        raise UsageError(
            "search milbich2021 moves single classes at class level; leave level and by out."
        )
    chosen = {"rungs": rungs is not None, "fids": len(fids) > 0, "steps": len(steps) > 0}
    named = [name for name, given in chosen.items() if given]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} were given; rungs are chosen by one of them.")
    if rungs is not None and rungs < 2:
        raise UsageError(f"{rungs} rungs: a ladder needs at least 2.")
    if not all(map(math.isfinite, fids)):
        raise UsageError(f"fids {tuple(fids)}: allowed are finite numbers.")
    if len(set(steps)) != len(steps):
        raise UsageError(f"steps {tuple(steps)}: a step is named twice; name each once.")
    if budget is not None and (search != "best" or budget < 0):
        raise UsageError(f"budget {budget}, search {search!r}: only 'best' has one, from 0.")
    check_null(null)


def _swap_size(begin: Sides, search: str) -> int:
    if search == "milbich2021":
        return PAIRS_A_STEP
    return max(1, round(SWAP_FRACTION * min(len(begin.train), len(begin.test))))


def _min_classes(start: Split) -> int:
    fewest = min(len(start.train_classes), len(start.test_classes))
    return max(MIN_CLASSES_PER_SIDE, round(KEPT_FRACTION * fewest))


def _check_sizes(settings: BuildSettings, begin: Sides, start: Split) -> None:
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
    terms = state.terms if is_tight(state.terms) else None
    shift = shift_between(pool.statistics, state.train, state.test, terms)
    return Split(pool.names(state.train), pool.names(state.test), shift)
