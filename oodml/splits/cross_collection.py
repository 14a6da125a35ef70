"""Splits that train on one collection and test on another, and the ladder that holds them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from oodml.errors import DataError
from oodml.fid.class_moments import ClassMoments
from oodml.fid.null import class_null, split_distance
from oodml.fid.shift import concatenated, measure, with_null
from oodml.files import digest
from oodml.parallel import side_by_side
from oodml.splits.ladder import BuildSettings, Ladder, Step
from oodml.splits.split import MIN_CLASSES_PER_SIDE, Split

if TYPE_CHECKING:
    from oodml.features.features import Features, FeatureSource

T = TypeVar("T")


@side_by_side()
def pair_ladder(
    train: Features,
    test: Features,
    *,
    level: str = "sample",
    beside: Ladder | None = None,
    source: str = "",
) -> Ladder:
    """A ladder with one rung that trains on one collection and tests on the other.

    Classes of the same name in both are left out of that rung. With `beside`, a ladder of either
    collection, its rungs are included in the order of FID, with their validation classes and
    episodes, and the new rung gets a null of as many draws as theirs. Raises `DataError` where
    networks, dimensions, levels or collections differ, or too few classes remain.
    """
    _check_network(train, test)
    shared = set(train.class_names) & set(test.class_names)
    own = (train, test) if beside is None else _around(train, test, beside, level)
    rung = _measured(train, test, shared, level, beside)
    others = () if beside is None else beside.rungs
    place = sum(other.fid < rung.fid for other in others)
    rungs = (*others[:place], rung, *others[place:])
    sizes = own[0].class_sizes | {k: v for k, v in own[1].class_sizes.items() if k not in shared}
    if beside is None:
        sizes = {name: size for name, size in sizes.items() if name not in shared}
    classes = len(rung.train_classes), len(rung.test_classes)
    return Ladder(
        features=_joint_source(train, test),
        source=source,
        class_sizes=dict(sorted(sizes.items())),
        settings=BuildSettings(
            rungs=len(rungs),
            seed=0 if beside is None else beside.settings.seed,
            level=level,
            train_fraction=classes[0] / sum(classes),
            swap_size=min(classes),
            min_classes=min(classes),
            search="pair",
            start=f"pair {train.source.fingerprint} {test.source.fingerprint}",
        ),
        trajectory=tuple(Step("pair" if r is rung else "beside", r.fid) for r in rungs),
        stopped=f"a pair of collections, {len(shared)} shared classes left out",
        rung_steps=tuple(range(len(rungs))),
        rungs=rungs,
        validation=_with_gap(beside.validation, place, ()) if beside else (),
        episodes=_with_gap(beside.episodes, place, {}) if beside else (),
    )


def pair_pool(train: Features, test: Features, *, beside: Ladder | None = None) -> Features:
    """The features of both collections in one pool, whose classes `pair_ladder` names.

    With `beside` the classes of its collection are all there; a class of the other collection that
    bears the same name as one of them is left out.
    """
    _check_network(train, test)
    first, second = (
        (train, test) if beside is None else _around(train, test, beside, beside.settings.level)
    )
    shared = set(train.class_names) & set(test.class_names)
    if beside is None:
        first = first.subset(sorted(set(first.class_names) - shared))
    return concatenated(
        first,
        second.subset(sorted(set(second.class_names) - shared)),
        _joint_source(train, test),
    )


def _joint_source(train: Features, test: Features) -> FeatureSource:
    name = f"{train.source.dataset} -> {test.source.dataset}"
    fingerprint = digest(["pair", train.source.fingerprint, test.source.fingerprint], 16)
    return train.source.with_data(name, fingerprint)


def _check_network(train: Features, test: Features) -> None:
    if train.source.network != test.source.network:
        raise DataError(
            f"the two collections have features of different networks ({train.source.network} "
            f"and {test.source.network}); extract both with the same backbone and precision."
        )
    dimensions = train.values.shape[1], test.values.shape[1]
    if dimensions[0] != dimensions[1]:
        raise DataError(
            f"the training collection has features of {dimensions[0]} dimensions, the test "
            f"collection of {dimensions[1]}; extract both in the same way."
        )


def _around(
    train: Features, test: Features, beside: Ladder, level: str
) -> tuple[Features, Features]:
    """The two collections, that of the ladder first: its classes keep their names."""
    if beside.settings.level != level:
        raise DataError(
            f"the ladder is at {beside.settings.level} level, the pair at {level} level; measure "
            f"both at level {beside.settings.level!r}."
        )
    if beside.features.network != train.source.network:
        raise DataError(
            f"the ladder was built on {beside.features.network}, the features are of "
            f"{train.source.network}; their FIDs do not compare."
        )
    for own, other in ((train, test), (test, train)):
        if beside.features.fingerprint == own.source.fingerprint:
            return own, other
    raise DataError(
        f"the ladder is of {beside.features.dataset!r}, which is neither "
        f"{train.source.dataset!r} nor {test.source.dataset!r}."
    )


def _with_gap(values: tuple[T, ...], place: int, gap: T) -> tuple[T, ...]:
    """One value a rung where a ladder has any, and `gap` for the new rung at `place`."""
    return (*values[:place], gap, *values[place:]) if values else ()


def _measured(
    train: Features, test: Features, shared: set[str], level: str, beside: Ladder | None
) -> Split:
    names = [tuple(sorted(set(features.class_names) - shared)) for features in (train, test)]
    if min(len(side) for side in names) < MIN_CLASSES_PER_SIDE:
        raise DataError(
            f"{len(shared)} classes are in both collections; {len(names[0])} and {len(names[1])} "
            f"remain, and a side needs at least {MIN_CLASSES_PER_SIDE}."
        )
    pool = concatenated(train.subset(names[0]), test.subset(names[1]), train.source)
    statistics = ClassMoments.from_features(pool, level)
    rung = Split(names[0], names[1])
    shift = measure(statistics, rung)
    drawn = [rung.shift.null_draws for rung in beside.rungs if rung.shift] if beside else []
    draws = max((count for count in drawn if count), default=0)
    if beside is not None and draws:
        sides = statistics.indices(names[0]), statistics.indices(names[1])
        distance = split_distance(statistics, *sides)
        null = class_null(*sides, distance, draws, beside.settings.seed)
        shift = with_null(shift, null)
    return replace(rung, shift=shift)
