from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import DataError
from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance
from oodml.fid.shift import measure_shift
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.cross_collection import pair_ladder, pair_pool
from oodml.splits.episodes import validation_fold, validation_of
from oodml.splits.measure import add_null


def collection(names: tuple[str, ...], fingerprint: str, seed: int) -> Features:
    made = make_features(classes=len(names), per_class=6 + seed, dimension=4, seed=seed)
    source = replace(made.source, dataset=f"pool {seed}", fingerprint=fingerprint * 16)
    return replace(made, class_names=names, source=source)


FIRST = collection(tuple("abcdefgh"), "1", 0)


SECOND = collection(tuple("ghijkl"), "2", 1)


@pytest.mark.parametrize("level", ["sample", "class"])
def test_a_pair_records_how_it_was_made(level: str) -> None:
    pair = pair_ladder(FIRST, SECOND, level=level, source="a + b")
    assert pair.source == "a + b" and pair.rung_steps == (0,)
    assert pair.stopped == "a pair of collections, 2 shared classes left out"
    settings = pair.settings
    assert (settings.level, settings.rungs, settings.search) == (level, 1, "pair")
    assert settings.train_fraction == 6 / 10
    assert (settings.swap_size, settings.min_classes, settings.seed) == (4, 4, 0)
    assert settings.start == f"pair {'1' * 16} {'2' * 16}"
    shift = pair.rungs[0].shift
    assert shift is not None and shift.level == level
    assert (shift.n_train, shift.n_test) == ((36, 28) if level == "sample" else (6, 4))
    assert [(step.kind, step.fid) for step in pair.trajectory] == [("pair", shift.fid)]
    assert pair.class_sizes == dict.fromkeys("abcdef", 6) | dict.fromkeys("ijkl", 7)
    assert pair.features.dataset == "pool 0 -> pool 1"
    # The ids of runs hang on it, so it must be the same in every release.
    assert pair.features.fingerprint == "c5654692c17d46ad"
    assert pair_ladder(SECOND, FIRST).features.fingerprint != pair.features.fingerprint


@pytest.mark.parametrize("own", [FIRST, SECOND], ids=["train", "test"])
def test_beside_a_ladder_its_collection_is_whole_and_rungs_stand_in_order(own: Features) -> None:
    ladder = build_ladder(own, rungs=2, min_classes=2)
    pair = pair_ladder(FIRST, SECOND, beside=ladder)
    fids = [rung.fid for rung in pair.rungs]
    assert fids == sorted(fids) == [step.fid for step in pair.trajectory] and len(fids) == 3
    assert pair.settings.rungs == 3 and pair.rung_steps == (0, 1, 2)
    kinds = [step.kind for step in pair.trajectory]
    assert sorted(kinds) == ["beside", "beside", "pair"]
    assert pair.rungs[kinds.index("pair")].id not in {rung.id for rung in ladder.rungs}
    per_class = 6 if own is FIRST else 7
    assert {pair.class_sizes[name] for name in own.class_names} == {per_class}


def test_the_pool_holds_the_classes_that_its_ladder_names() -> None:
    alone = pair_pool(FIRST, SECOND)
    assert alone.class_names == tuple("abcdefijkl")
    assert alone.source == pair_ladder(FIRST, SECOND).features
    beside = build_ladder(SECOND, rungs=2, min_classes=2)
    pool = pair_pool(FIRST, SECOND, beside=beside)
    assert pool.class_names == (*"ghijkl", *"abcdef")
    assert set(pool.class_names) == set(pair_ladder(FIRST, SECOND, beside=beside).class_sizes)
    shared = pool.values[pool.of_classes(["g", "h"])]
    assert (shared == SECOND.values[SECOND.of_classes(["g", "h"])]).all()


def test_two_classes_a_side_are_enough_and_one_is_not() -> None:
    few = FIRST.subset(["a", "b", "g"])
    assert len(pair_ladder(few, SECOND).rungs[0].train_classes) == 2
    with pytest.raises(DataError, match="1 and 5 remain"):
        pair_ladder(FIRST.subset(["a", "g"]), SECOND)


def test_a_ladder_of_another_network_does_not_stand_beside() -> None:
    ladder = build_ladder(FIRST, rungs=2, min_classes=2)
    strange = replace(ladder, features=replace(ladder.features, weights="2" * 64))
    with pytest.raises(DataError, match="their FIDs do not compare"):
        pair_ladder(FIRST, SECOND, beside=strange)


def test_beside_a_ladder_nothing_that_goes_with_its_rungs_is_lost() -> None:
    ladder = add_null(build_ladder(FIRST, rungs=2, min_classes=2, seed=5), FIRST, 4)
    ladder = replace(
        ladder,
        validation=tuple(rung.train_classes[:1] for rung in ladder.rungs),
        episodes=tuple({2: {0: {rung.test_classes[0]: ("a.png",)}}} for rung in ladder.rungs),
    )
    pair = pair_ladder(FIRST, SECOND, beside=ladder)
    for number, rung in enumerate(ladder.rungs):
        place = pair.rung_of(rung.id)
        assert place is not None
        assert pair.validation[place] == ladder.validation[number]
        assert pair.episodes[place] == ladder.episodes[number]
    own = [step.kind for step in pair.trajectory].index("pair")
    assert pair.validation[own] == () and pair.episodes[own] == {}
    fold = validation_of(pair, own, seed=2)
    assert fold == validation_fold(pair.rungs[own], seed=2) and fold.validation_classes
    report = measure_shift(
        pair_pool(FIRST, SECOND, beside=ladder), pair.rungs[own], null=4, seed=5, kid=False
    )
    shift = pair.rungs[own].shift
    assert shift is not None and shift.null_draws == 4
    assert shift.null_mean == pytest.approx(report.null_mean, rel=1e-9)
    bare = pair_ladder(FIRST, SECOND, beside=build_ladder(FIRST, rungs=2, min_classes=2, null=0))
    assert all(rung.shift and rung.shift.null_mean is None for rung in bare.rungs)
    assert (bare.validation, bare.episodes) == ((), ())


def test_collections_of_other_dimensions_are_refused_by_their_numbers() -> None:
    wide = replace(SECOND, values=np.tile(SECOND.values, 2))
    for make in (pair_ladder, pair_pool):
        with pytest.raises(DataError, match=r"4 dimensions.*8"):
            make(FIRST, wide)


def other_collection() -> Features:
    other = make_features(classes=10, per_class=7, dimension=5, seed=9)
    names = ("class 000", "class 001", *(f"kind {i}" for i in range(8)))
    return replace(other, class_names=names, source=replace(other.source, fingerprint="f" * 16))


def test_a_pair_trains_on_one_collection_and_tests_on_the_other(grouped: Features) -> None:
    other = other_collection()
    ladder = build_ladder(grouped, rungs=4)
    pair = pair_ladder(grouped, other, beside=ladder)
    [rung] = [r for r in pair.rungs if r.id not in {own.id for own in ladder.rungs}]
    assert len(pair.rungs) == 5
    assert set(rung.train_classes) == set(grouped.class_names) - {"class 000", "class 001"}
    assert set(rung.test_classes) == {f"kind {i}" for i in range(8)}
    values = (
        grouped.values[grouped.of_classes(rung.train_classes)],
        other.values[other.of_classes(rung.test_classes)],
    )
    assert rung.fid == pytest.approx(frechet_distance(*values), rel=1e-8)
    assert set(pair.class_sizes) == {*grouped.class_names, *rung.test_classes}
    alone = pair_ladder(grouped, other)
    assert [r.id for r in alone.rungs] == [rung.id] and "class 000" not in alone.class_sizes


def test_pairs_that_do_not_compare_are_refused(grouped: Features) -> None:
    other = other_collection()
    ladder = build_ladder(grouped, rungs=2)
    strange = replace(other, source=replace(other.source, weights="2" * 64))
    for train, test, options, words in (
        (grouped, strange, {}, "different networks"),
        (grouped, grouped, {}, "0 and 0 remain"),
        (grouped, other, {"beside": ladder, "level": "class"}, "level 'sample'"),
        (other, replace(other, source=replace(other.source, fingerprint="e" * 16),
                        class_names=tuple(f"x{i}" for i in range(10))),
         {"beside": ladder}, "neither"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            pair_ladder(train, test, **options)  # type: ignore[arg-type]


def test_a_pair_without_a_source_has_none() -> None:
    first, second = (make_features(classes=3, per_class=4, dimension=3, seed=i) for i in (0, 1))
    second = replace(second, class_names=("x", "y", "z"))
    assert pair_ladder(first, second).source == ""
    assert pair_ladder(first, second, source="two folders").source == "two folders"
