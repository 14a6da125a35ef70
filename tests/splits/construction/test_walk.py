"""Steps of a walk against the published rule, in NumPy from its formula."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import make_features

from oodml.features.features import Features
from oodml.splits.construction import walk
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.construction.state import Pool, Sides, State, Units
from oodml.splits.construction.walk import (
    EASIER,
    HARDER,
    _removals,
    _swaps,
    by_nearness,
    forget,
    moves,
    swap_until_saturated,
    walk_to,
)
from oodml.splits.split import Split, random_split


def published_keys(features: Features, split: Split, level: str) -> tuple[list[str], list[str]]:
    """Train and test classes by the published key, in NumPy from the formula alone."""
    mean = {
        name: features.values[features.labels == i].astype(np.float64).mean(0)
        for i, name in enumerate(features.class_names)
    }

    def center(names: tuple[str, ...]) -> np.ndarray:
        if level == "class":
            return np.mean([mean[name] for name in names], axis=0)
        return features.values[features.of_classes(names)].astype(np.float64).mean(0)

    train, test = center(split.train_classes), center(split.test_classes)

    def key(name: str, own: np.ndarray, other: np.ndarray) -> float:
        return float(np.linalg.norm(mean[name] - other) - np.linalg.norm(mean[name] - own))

    return (
        sorted(split.train_classes, key=lambda name: key(name, train, test)),
        sorted(split.test_classes, key=lambda name: key(name, test, train)),
    )


def unbalanced() -> Features:
    """Classes of 2 to 9 samples, so that weights by size matter."""
    features = make_features(classes=20, per_class=9, dimension=6, seed=3)
    keep = [i for i, label in enumerate(features.labels) if i % 9 < 2 + label % 8]
    return replace(features, values=features.values[keep], labels=features.labels[keep])


def sides_of(features: Features, split: Split, level: str) -> Sides:
    pool = Pool.of(features, level=level)
    return Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))


@pytest.mark.parametrize("level", ["sample", "class"])
def test_the_first_swaps_equal_the_published_rule(level: str) -> None:
    features = unbalanced()
    split = random_split(features.class_names)
    for _ in range(3):
        train_ranked, test_ranked = published_keys(features, split, level)
        sides = next(_swaps(sides_of(features, split, level), 2, by_nearness, HARDER))
        names = features.class_names
        after = Split(tuple(names[i] for i in sides.train), tuple(names[i] for i in sides.test))
        assert set(split.train_classes) - set(after.train_classes) == set(train_ranked[:2])
        assert set(split.test_classes) - set(after.test_classes) == set(test_ranked[:2])
        split = after


def test_a_removal_takes_the_classes_nearest_to_the_other_side() -> None:
    features = unbalanced()
    split = random_split(features.class_names)
    train_ranked, test_ranked = published_keys(features, split, "sample")
    sides = next(_removals(sides_of(features, split, "sample"), 3, 2))
    kept = {features.class_names[i] for i in (*sides.train, *sides.test)}
    assert set(features.class_names) - kept == {*train_ranked[:3], *test_ranked[:3]}
    assert (len(sides.train), len(sides.test)) == (7, 7)


def test_a_step_that_does_not_raise_fid_is_tried_smaller() -> None:
    features = make_features(classes=20, per_class=6, dimension=4, seed=2)
    ladder = build_ladder(features, rungs=2, swap_size=10, min_classes=10, easier=False)
    sizes = [len(step.to_test) for step in ladder.trajectory if step.kind == "swap"]
    # Exchanging both sides whole changes nothing, so the first accepted step is smaller.
    assert sizes and max(sizes) < 10 and sizes == sorted(sizes, reverse=True)


def test_units_that_are_equally_near_move_in_the_order_of_their_index() -> None:
    features = make_features(classes=900, per_class=1, dimension=3)
    kinds = np.random.default_rng(0).integers(0, 2, 900)
    features.values[:] = kinds[:, None]
    sides = Sides.of(Pool.of(features, level="class"), np.arange(500), np.arange(500, 900))
    for sign in (EASIER, HARDER):
        for ranked in by_nearness(sides, sign):
            for kind in (0, 1):
                alike = ranked[kinds[ranked] == kind].tolist()
                assert alike == sorted(alike) and len(alike) > 100


def test_swaps_towards_easier_splits_lower_fid_and_take_as_many_units() -> None:
    pool = Pool.of(make_features(classes=15, per_class=6, dimension=3))
    order = np.random.default_rng(0).permutation(15)
    for units in (5, 10):
        begin = Sides.of(pool, order[:units], order[units:])
        for sign in (EASIER, HARDER):
            seen: list[State] = []
            swap_until_saturated(begin, 7, by_nearness, sign, accept=seen.append)
            fids = [begin.fid, *(state.fid for state in seen)]
            assert seen and all(sign * step > 0 for step in np.diff(fids))
            # All 5 of the smaller side at once, then by halves: the first that moves FID.
            sizes = (5, 2, 1)
            tried = [next(_swaps(begin, size, by_nearness, sign)) for size in sizes]
            first = next(side for side in tried if sign * (side.fid - begin.fid) > 0)
            assert seen[0].train.tolist() == first.train.tolist()


def test_a_step_that_does_not_help_is_tried_at_half_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool.of(make_features(classes=40, per_class=3, dimension=3))
    begin = Sides.of(pool, np.arange(18), np.arange(18, 40))
    tried: list[tuple[int, int]] = []

    def refusing(before: Sides, after: Sides, sign: int) -> bool:
        assert before is begin
        gone = len(np.setdiff1d(before.train, after.train))
        tried.append((gone, len(before.test) - len(after.test)))
        return False

    monkeypatch.setattr(walk, "climbs", refusing)
    assert walk.remove_until_fewest(begin, 9, 4, walk.forget) == "saturated"
    assert tried == [(9, 9), (4, 4), (2, 2), (1, 1)]
    tried.clear()
    assert walk.swap_until_saturated(begin, 9, by_nearness) is begin
    assert tried == [(9, 0), (4, 0), (2, 0), (1, 0)]
    tried.clear()
    assert walk.remove_until_fewest(begin, 99, 4, walk.forget) == "saturated"
    assert tried[0] == (14, 14)
    assert walk.remove_until_fewest(begin, 9, 18, walk.forget) == "min classes 18 reached"


def halves(pool: Pool) -> Sides:
    split = random_split(pool.statistics.class_names)
    return Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))


def by_key(sides: Sides, sign: int) -> tuple[Any, Any]:
    train, test = sides.nearness
    return sides.train[np.argsort(sign * train)], sides.test[np.argsort(sign * test)]


def test_a_walk_to_a_target_rises_and_ends_there_or_higher() -> None:
    pool = Pool.of(make_features(classes=30, per_class=8, dimension=5, seed=2))
    start = halves(pool)
    target = swap_until_saturated(start, 2, lambda s, sign: (s.train, s.test))
    far = swap_until_saturated(start.exchange(start.train[:9], start.test[:9]), 3, by_key)
    mirrored = Sides.of(pool, far.test, far.train)
    for goal in (target, far, mirrored):
        states: list[State] = []
        end = walk_to(start, goal, 2, by_key, states.append)
        fids = [start.fid, *(state.fid for state in states)]
        assert all(a < b for a, b in pairwise(fids))
        assert end.fid >= goal.fid * (1 - 1e-9)
    # On the way down from a hard split nothing rises, so nothing is recorded.
    states = []
    assert walk_to(far, start, 2, by_key, states.append) is far and not states


def test_the_mirror_image_is_taken_where_it_is_nearer() -> None:
    pool = Pool.of(make_features(classes=20, per_class=6, dimension=3))
    start = Sides.of(pool, np.arange(10), np.arange(10, 20))
    for shared in (4, 6):
        train = np.concatenate([np.arange(shared), np.arange(10, 20 - shared)])
        target = Sides.of(pool, train, np.setdiff1d(np.arange(20), train))
        asked: list[int] = []

        def ranking(sides: Sides, sign: int, asked: list[int] = asked) -> tuple[Units, Units]:
            asked.append(sign)
            return by_nearness(sides, sign)

        walk_to(start, target, 1, ranking, forget)
        assert len(asked) == 4


def test_rounding_is_no_step() -> None:
    assert moves(10.0, 10.1, 1) and moves(10.0, 9.9, -1)
    assert not moves(10.0, 10.0 + 1e-10, 1) and not moves(10.0, 10.0 - 1e-10, -1)
    assert not moves(10.0, 9.9, 1) and not moves(10.0, 10.0, 1) and not moves(0.0, 0.0, -1)
