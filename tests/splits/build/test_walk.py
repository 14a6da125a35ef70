"""Walks and searches, step by step: which units move, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_features

from oodml.fid.frechet import FrechetTerms, frechet_distance
from oodml.splits.build import build, search, walk
from oodml.splits.build.construction import build_ladder
from oodml.splits.build.state import Pool, Sides, State, Units, is_tight
from oodml.splits.build.transport_gain import Gains
from oodml.splits.build.walk import (
    EASIER,
    HARDER,
    _swaps,
    by_nearness,
    forget,
    swap_until_saturated,
    walk_to,
)


@pytest.mark.parametrize(("fewest", "dimension"), [(3, 1), (8, 2), (40, 10), (64, 16), (999, 16)])
def test_gains_look_at_as_many_dimensions_as_points_allow(fewest: int, dimension: int) -> None:
    assert Gains.of(Pool.of(make_features()), fewest).inside.dimension == dimension


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


def test_a_side_may_grow_beyond_the_dimensions() -> None:
    features = make_features(classes=8, per_class=10, dimension=24)
    kept = np.flatnonzero((np.arange(len(features)) % 10 < 5) | (features.labels > 3))
    features = replace(features, values=features.values[kept], labels=features.labels[kept])
    sides = Sides.of(Pool.of(features), np.arange(4), np.arange(4, 8))
    assert sides.moments is None
    for out, back in (([0], [4]), ([1, 2], [6, 7]), ([4], [1])):
        sides = sides.exchange(np.array(out), np.array(back))
        values = [
            features.values[np.isin(features.labels, side)] for side in (sides.train, sides.test)
        ]
        assert (sides.moments is None) == (min(map(len, values)) <= 24)
        assert sides.fid == pytest.approx(frechet_distance(*values), rel=1e-9)


def test_without_a_budget_the_best_search_ends_where_gain_does() -> None:
    # Two kinds of classes with equal means, which the published key cannot tell apart.
    plain = make_features(classes=20, per_class=20, dimension=4, seed=1)
    random = np.random.default_rng(0)
    spread = np.where(random.permutation(20)[:, None] % 2, 0.3, 3.0)[plain.labels]
    values = (spread * random.standard_normal(plain.values.shape)).astype(np.float32)
    features = replace(plain, values=values)
    ways = {
        search: build_ladder(
            features, search=search, budget=0 if search == "best" else None, rungs=2, min_classes=8
        ).trajectory
        for search in ("means", "transport", "best")
    }
    assert ways["best"] == ways["transport"] != ways["means"]


def test_a_walk_to_a_target_is_recorded_as_swaps() -> None:
    pool = Pool.of(make_features(classes=16, per_class=6, dimension=3))
    order = np.random.default_rng(1).permutation(16)
    start = Sides.of(pool, order[:8], order[8:])
    seen: list[State] = []
    walk_to(start, Sides.of(pool, np.arange(8), np.arange(8, 16)), 1, by_nearness, seen.append)
    assert seen and {state.kind for state in seen} == {"swap"}


def test_kicks_alone_lead_out_of_where_no_pair_of_units_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "FRESH_STARTS", 0.0)
    pool = Pool.of(make_features(classes=14, per_class=12, dimension=4))
    gains, order = Gains.of(pool, 84), np.random.default_rng(0).permutation(14)
    begin = Sides.of(pool, order[:7], order[7:])
    refined = search.refine_pairs(begin, gains, iter(range(80)))
    found = search.hardest_split(begin, 2, gains, seed=0, budget=80)
    assert begin.fid < refined.fid < 0.99 * found.fid


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


def test_a_distance_that_is_all_mean_is_tight() -> None:
    assert is_tight(FrechetTerms(1.0, 0.0, 0.0))
    assert not is_tight(FrechetTerms(1.0, 1.0, 1e-8))


def test_kicks_cool_down(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[float] = []
    kicked = search._kicked

    def listening(sides: Sides, part: float, random: np.random.Generator) -> tuple[Sides, int]:
        parts.append(part)
        return kicked(sides, part, random)

    monkeypatch.setattr(search, "_kicked", listening)
    monkeypatch.setattr(search, "FRESH_STARTS", 0.0)
    pool = Pool.of(make_features(classes=8, per_class=6, dimension=2))
    begin, gains = Sides.of(pool, np.arange(4), np.arange(4, 8)), Gains.of(pool, 24)
    search.hardest_split(begin, 1, gains, seed=0, budget=80)
    assert len(parts) > 3 and parts == sorted(parts, reverse=True)
    assert search.HOTTEST >= parts[0] > 0.5 * search.HOTTEST > parts[-1] > search.COLDEST


@pytest.mark.parametrize(("part", "kick"), [(0.0, 1), (0.2, 1), (0.5, 3), (1.0, 6), (9.0, 6)])
def test_a_kick_exchanges_its_part_of_the_smaller_side(part: float, kick: int) -> None:
    pool = Pool.of(make_features(classes=16, per_class=3, dimension=3))
    sides = Sides.of(pool, np.arange(6), np.arange(6, 16))
    for seed in range(8):
        kicked, size = search._kicked(sides, part, np.random.default_rng(seed))
        assert size == kick == len(np.setdiff1d(kicked.train, sides.train))
        assert (len(kicked.train), len(kicked.test)) == (6, 10)


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


def test_a_unit_at_the_mean_of_a_side_is_at_no_distance_from_it() -> None:
    features = make_features(classes=9, per_class=4, dimension=3)
    features.values[:] *= 0.01
    sides = Sides.of(Pool.of(features), np.arange(4), np.arange(4, 9))
    means = [
        np.array(
            [features.values[features.labels == unit].astype(np.float64).mean(0) for unit in own]
        )
        for own in (sides.train, sides.test)
    ]
    for own, other, found in zip(means, means[::-1], sides.nearness, strict=True):
        far, near = (np.linalg.norm(own - side.mean(0), axis=1) for side in (other, own))
        np.testing.assert_allclose(found, far - near, atol=1e-8)


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


def test_removals_go_on_from_what_the_search_found() -> None:
    features = make_features(classes=12, per_class=6, dimension=3, seed=7)
    fids = {}
    for name in ("transport", "best"):
        ladder = build_ladder(
            features,
            search=name,
            budget=60 if name == "best" else None,
            rungs=2,
            swap_size=3,
            min_classes=4,
        )
        fids[name] = max(s.fid for s in ladder.trajectory if s.kind != "removal")
        assert ladder.trajectory[-1].kind == "removal"
        assert ladder.trajectory[-1].fid > fids[name]
    assert fids["best"] > 1.001 * fids["transport"]


def test_the_way_to_what_the_search_found_takes_steps_of_the_size_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def listening(start: Sides, target: Sides, size: int, *rest: object) -> Sides:
        asked.append(size)
        return walk_to(start, target, size, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "walk_to", listening)
    features = make_features(classes=12, per_class=6, dimension=3, seed=7)
    build_ladder(features, search="best", budget=60, rungs=2, swap_size=3, min_classes=4)
    assert asked == [3]
