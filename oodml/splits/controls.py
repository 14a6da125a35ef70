"""Is it shift, or only fewer classes? Random splits of the same sizes beside every rung."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from oodml.errors import DataError, UsageError
from oodml.fid.null import Null, class_null, split_distance
from oodml.fid.shift import Shift, shift_of, split_terms, with_null
from oodml.fid.side_by_side import side_by_side
from oodml.fid.statistics import ClassMoments
from oodml.seeding import generator
from oodml.splits.equal import split_features
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split

if TYPE_CHECKING:
    from oodml.features.features import Features

# One set of classes (and images) and two sizes have one null, however the classes are dealt out.
_Key = tuple[frozenset[str], tuple[tuple[str, int], ...], int, int]


@side_by_side()
def add_null(ladder: Ladder, features: Features, draws: int = 20, seed: int = 0) -> Ladder:
    """The ladder with a null beside the FID of every rung and control.

    `null_mean` and `null_sd` are those of the FID over `draws` random splits of the rung's own
    classes into sides of the same sizes; `excess = fid - null_mean`, `z = excess / null_sd`.
    Rungs of the same classes and sizes share one null. Raises `UsageError` for fewer than 2
    draws, `DataError` if `features` are not those that the ladder was measured on.
    """
    if draws < 2:
        raise UsageError(f"--null {draws}: a standard deviation needs at least 2 random splits.")
    _check_source(ladder, features)
    statistics_of = _statistics(ladder, features)
    nulls: dict[_Key, Null] = {}

    def beside(split: Split) -> Split:
        return _beside_null(split, statistics_of(split), nulls, draws, seed)

    return replace(
        ladder,
        rungs=tuple(beside(split) for split in ladder.rungs),
        controls=tuple(beside(split) for split in ladder.controls),
    )


@side_by_side()
def add_controls(ladder: Ladder, features: Features, seed: int = 0) -> Ladder:
    """The ladder with one size-matched control per rung, and its own measured shift.

    The control of a rung deals out the rung's classes at random, as many to each side, so it
    differs from the rung in nothing but the shift. It depends on the rung's split and the seed.
    A null that the rung has is the control's null too. Raises `DataError` if `features` are not
    those that the ladder was measured on.
    """
    _check_source(ladder, features)
    statistics_of = _statistics(ladder, features)
    taken = {rung.id for rung in ladder.rungs}
    controls = []
    for rung in ladder.rungs:
        control = _random_like(rung, taken, seed)
        taken.add(control.id)
        controls.append(replace(control, shift=_shift(statistics_of(rung), control, rung.shift)))
    return replace(ladder, controls=tuple(controls))


def _statistics(ladder: Ladder, features: Features) -> Callable[[Split], ClassMoments]:
    """The statistics of the samples that take part in a split; shared where that is all of them."""
    level = ladder.settings.level
    whole = ClassMoments.from_features(features, level=level)
    return lambda split: (
        ClassMoments.from_features(split_features(split, features), level=level)
        if split.images_kept
        else whole
    )


def _random_like(rung: Split, taken: set[str], seed: int) -> Split:
    pool = sorted(rung.train_classes + rung.test_classes)
    size = len(rung.train_classes)
    # Of very few classes the same split may be drawn twice; a run must belong to one of them.
    for attempt in range(100):
        order = generator(seed, "control", rung.id, attempt).permutation(len(pool))
        names = [pool[index] for index in order]
        control = replace(
            rung,
            train_classes=tuple(names[:size]),
            test_classes=tuple(names[size:]),
            shift=None,
            published_fid=None,
        )
        if control.id not in taken:
            return control
    raise DataError(
        f"{len(pool)} classes are too few for a control of rung {rung.id} that is no other split."
    )


def _shift(statistics: ClassMoments, split: Split, rung: Shift | None) -> Shift:
    train, test = (statistics.indices(names) for names in (split.train_classes, split.test_classes))
    shift = shift_of(statistics, train, test, split_terms(statistics, train, test))
    if rung is None or rung.null_mean is None or rung.null_sd is None or not rung.null_draws:
        return shift
    return with_null(shift, rung.null_mean, rung.null_sd, rung.null_draws)


def _beside_null(
    split: Split, statistics: ClassMoments, nulls: dict[_Key, Null], draws: int, seed: int
) -> Split:
    if split.shift is None:
        raise DataError(
            f"split {split.id} carries no shift measured here, so no null goes with it."
        )
    sides = (split.train_classes, split.test_classes)
    train, test = (statistics.indices(names) for names in sides)
    key = (frozenset(sides[0] + sides[1]), split.images_kept, len(sides[0]), len(sides[1]))
    if key not in nulls:
        nulls[key] = class_null(train, test, split_distance(statistics, train, test), draws, seed)
    null = nulls[key]
    return replace(split, shift=with_null(split.shift, null.mean, null.sd, null.draws))


def _check_source(ladder: Ladder, features: Features) -> None:
    made, given = ladder.features, features.source
    if (made.fingerprint, made.network) != (given.fingerprint, given.network):
        raise DataError(
            f"the ladder was measured on {made.dataset!r} ({made.fingerprint}) with "
            f"{made.network}, the features given are of {given.dataset!r} "
            f"({given.fingerprint}) with {given.network}; a null of others says nothing about it."
        )
