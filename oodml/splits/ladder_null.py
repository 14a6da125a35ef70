"""The null of a ladder: FIDs of random splits of the same sizes beside the FID of every rung."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from oodml.errors import DataError, UsageError
from oodml.fid.class_moments import ClassMoments
from oodml.fid.null import Null, class_null, split_distance
from oodml.fid.shift import with_null
from oodml.fid.side_by_side import side_by_side
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split

if TYPE_CHECKING:
    from oodml.features.features import Features

# The null depends on the set of classes and the two sizes alone, not on which class is where.
_Key = tuple[frozenset[str], int, int]


@side_by_side()
def add_null(ladder: Ladder, features: Features, draws: int = 20) -> Ladder:
    """The ladder with a null beside the FID of every rung.

    `null_mean` and `null_sd` are those of the FID over `draws` random splits of the rung's own
    classes into sides of the same sizes, drawn with the ladder's own seed; `excess = fid -
    null_mean`, `z = excess / null_sd`. Rungs of the same classes and sizes share one null. Raises
    `UsageError` for fewer than 2 draws, `DataError` if `features` are not those that the ladder
    was measured on.
    """
    if draws < 2:
        raise UsageError(f"draws={draws}: a standard deviation needs at least 2 random splits.")
    _check_source(ladder, features)
    statistics = ClassMoments.from_features(features, level=ladder.settings.level)
    seed = ladder.settings.seed
    nulls: dict[_Key, Null] = {}
    rungs = [_with_null(split, statistics, nulls, draws, seed) for split in ladder.rungs]
    return replace(ladder, rungs=tuple(rungs))


def _with_null(
    split: Split, statistics: ClassMoments, nulls: dict[_Key, Null], draws: int, seed: int
) -> Split:
    if split.shift is None:
        raise DataError(
            f"split {split.id} carries no shift measured here, so no null goes with it."
        )
    sides = (split.train_classes, split.test_classes)
    train, test = (statistics.indices(names) for names in sides)
    key = (frozenset(sides[0] + sides[1]), len(sides[0]), len(sides[1]))
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
            f"({given.fingerprint}) with {given.network}."
        )
