"""Given splits measured: a ladder under another ruler, and the null of its rungs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from oodml.errors import DataError, UsageError
from oodml.features.features import Features, require_distinct
from oodml.fid.class_moments import LEVELS, ClassMoments
from oodml.fid.null import Null, class_null, split_distance
from oodml.fid.shift import measure, with_null
from oodml.parallel import each, side_by_side
from oodml.splits.exchange import match_classes, steps_between, with_data
from oodml.splits.ladder import NOT_STATED, FormerRuler, Ladder
from oodml.splits.split import Split


@side_by_side()
def measure_ladder(
    ladder: Ladder, features: Features, *, level: str | None = None, null: int = 20
) -> Ladder:
    """The same splits under the network of `features`: shift, null and excess of every rung.

    Classes, and with them the ids of the splits, stay as they are; rungs are put in the order of
    the new FIDs. What the FIDs were before is kept: `published_fid` of a rung, and in `former` the
    FIDs of the network that had measured the ladder. `level` is the ladder's own unless given, or
    "class" where the ladder does not state one; `null` is as in `build_ladder`. Under the ladder's
    own network and level only the null is new. Splits that were imported without data take the
    names of the features' classes that they match. Raises `DataError` for features of other data
    for constant features, and for FIDs that are equal.
    """
    stated = ladder.settings.level
    level = level or ("class" if stated == NOT_STATED else stated)
    if level not in LEVELS:
        raise UsageError(f"FID level {level!r}: allowed are 'sample' and 'class'.")
    check_null(null)
    require_distinct(features)
    ladder = _on_data(ladder, features)
    if (ladder.features, stated) == (features.source, level) and ladder.measured:
        return add_null(ladder, features, null) if null else ladder
    statistics = ClassMoments.from_features(features, level=level)
    measured = each(lambda rung: replace(rung, shift=measure(statistics, rung)), ladder.rungs)
    order = sorted(range(len(measured)), key=lambda number: measured[number].fid)
    rungs = tuple(measured[number] for number in order)
    former = ladder.former
    if ladder.measured:
        fids = tuple(ladder.rungs[number].fid for number in order)
        former = FormerRuler(ladder.features, stated, fids)
    if null:
        rungs = _with_null(rungs, statistics, null, ladder.settings.seed)
    return replace(
        ladder,
        features=features.source,
        settings=replace(ladder.settings, level=level),
        trajectory=steps_between(rungs),
        rung_steps=tuple(range(len(rungs))),
        rungs=rungs,
        validation=tuple(ladder.validation[number] for number in order if ladder.validation),
        episodes=tuple(ladder.episodes[number] for number in order if ladder.episodes),
        former=former,
    )


@side_by_side()
def add_null(ladder: Ladder, features: Features, draws: int = 20) -> Ladder:
    """The ladder with the null of every rung: FID over `draws` random splits of its own classes.

    The sides of the random splits are as large as the rung's, and drawn with the ladder's seed.
    Rungs of the same classes and sizes share one null. Raises `UsageError` for fewer than 2 draws,
    and `DataError` for rungs without a shift or for other features than the ladder's own.
    """
    check_source(ladder, features)
    statistics = ClassMoments.from_features(features, level=ladder.settings.level)
    return replace(ladder, rungs=_with_null(ladder.rungs, statistics, draws, ladder.settings.seed))


def check_null(draws: int) -> None:
    """Raise `UsageError` for a number of random splits that no null can be taken of."""
    if draws < 0 or draws == 1:
        raise UsageError(f"null {draws}: give 0 for none, or at least 2 random splits.")


def check_source(ladder: Ladder, features: Features) -> None:
    """Raise `DataError` unless the ladder was measured on these features."""
    made, given = ladder.features, features.source
    if made != given:
        raise DataError(
            f"the ladder was measured on {made.dataset!r} ({made.fingerprint}) with "
            f"{made.network}, the features given are of {given.dataset!r} "
            f"({given.fingerprint}) with {given.network}."
        )


def _with_null(
    rungs: Sequence[Split], statistics: ClassMoments, draws: int, seed: int
) -> tuple[Split, ...]:
    nulls: dict[tuple[frozenset[str], int, int], Null] = {}
    found = []
    for split in rungs:
        if split.shift is None:
            raise DataError(f"split {split.id} carries no measured shift to add a null to.")
        sides = split.train_classes, split.test_classes
        key = frozenset(sides[0] + sides[1]), len(sides[0]), len(sides[1])
        if key not in nulls:
            train, test = (statistics.indices(names) for names in sides)
            distance = split_distance(statistics, train, test)
            nulls[key] = class_null(train, test, distance, draws, seed)
        found.append(replace(split, shift=with_null(split.shift, nulls[key])))
    return tuple(found)


def _on_data(ladder: Ladder, features: Features) -> Ladder:
    """The ladder in the class names of its data; splits without data take those of `features`."""
    known, given = ladder.features, features.source
    if not known.fingerprint:
        match = match_classes(ladder.class_sizes, features.class_names)
        return with_data(ladder, match, features, ladder.source)
    if known.fingerprint != given.fingerprint:
        raise DataError(
            f"the ladder is of dataset {known.dataset!r} with fingerprint {known.fingerprint}, the "
            f"features are of {given.dataset!r} with {given.fingerprint or 'none'}; extract the "
            "features of the ladder's images."
        )
    return ladder
