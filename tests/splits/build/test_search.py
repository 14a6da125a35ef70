from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from conftest import make_features
from hypothesis import given, settings
from hypothesis import strategies as st

from oodml.fid.frechet import frechet_distance
from oodml.splits.build.construction import build_ladder
from oodml.splits.build.construction import state as state_module
from oodml.splits.build.search import hardest_split, refine_pairs
from oodml.splits.build.state import Pool, Sides, State
from oodml.splits.build.transport_gain import Gains
from oodml.splits.build.walk import moves, swap_until_saturated, walk_to
from oodml.splits.split import random_split


def halves(pool: Pool) -> Sides:
    split = random_split(pool.statistics.class_names)
    return Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))


def test_gains_are_the_first_order_change_of_fid() -> None:
    # Many classes, so that one of them is a small step; no dimension is left out.
    features = make_features(classes=120, per_class=30, dimension=5, seed=4)
    pool = Pool.of(features)
    # Away from a random split, where the first order vanishes and the second rules.
    train, test = by_key(halves(pool), 1)
    sides = halves(pool).exchange(train[:15], test[:15])
    out, back = Gains.of(pool, 1800).of_sides(sides.train, sides.test)
    for column in (0, 7, 30):
        exact = [sides.exchange(sides.train[[i]], sides.test[[column]]).fid for i in range(60)]
        change, predicted = np.array(exact) - sides.fid, out + back[column]
        assert np.corrcoef(change, predicted)[0, 1] > 0.99
        assert np.polyfit(predicted, change, 1)[0] == pytest.approx(1, abs=0.1)


def test_the_gain_goes_on_where_the_published_key_saturates() -> None:
    # Two kinds of classes with equal means: only covariances can tell them apart.
    random = np.random.default_rng(0)
    plain = make_features(classes=40, per_class=20, dimension=6, seed=1)
    spread = np.where(random.permutation(40)[:, None] % 2, 0.3, 3.0)[plain.labels]
    values = (spread * random.standard_normal(plain.values.shape)).astype(np.float32)
    features = replace(plain, values=values)
    reached = {}
    for search in ("means", "transport", "best"):
        ladder = build_ladder(
            features, search=search, budget=60 if search == "best" else None,
            rungs=2, swap_size=4, min_classes=20, null=0,
        )  # fmt: skip
        reached[search] = max(s.fid for s in ladder.trajectory if s.kind != "removal")
    assert reached["means"] < 0.8 * reached["transport"]
    assert reached["transport"] <= reached["best"]


@pytest.mark.parametrize("level", ["sample", "class"])
def test_the_best_search_finds_the_hardest_split_of_a_small_pool(level: str) -> None:
    features = make_features(classes=10, per_class=6, dimension=3, seed=7)
    pool = Pool.of(features, level=level)
    everything = range(10)
    exact = max(
        Sides.of(pool, np.array(train), np.setdiff1d(everything, train)).fid
        for train in combinations(everything, 5)
    )
    ladder = build_ladder(features, level=level, search="best", budget=200, rungs=2, min_classes=5)
    assert ladder.trajectory[-1].fid == pytest.approx(exact, rel=1e-9)


def test_the_budget_counts_exact_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool.of(make_features(classes=30, per_class=8, dimension=5))
    assert pool.gram is None
    end = swap_until_saturated(halves(pool), 3, lambda s, sign: (s.train, s.test))
    calls: list[Any] = []
    exact = state_module.split_terms

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return exact(*arguments, **options)

    end.terms
    monkeypatch.setattr(state_module, "split_terms", counted)
    gains = Gains.of(pool, 120)
    for budget in (0, 7, 30):
        calls.clear()
        found = hardest_split(end, 3, gains, seed=1, budget=budget)
        assert len(calls) <= budget and found.fid >= end.fid
        again = hardest_split(end, 3, gains, seed=1, budget=budget)
        assert (found.train == again.train).all()
    assert len(calls) > 30


@pytest.mark.parametrize("seed", range(4))
def test_a_search_never_ends_lower_than_it_began(seed: int) -> None:
    pool = Pool.of(make_features(classes=24, per_class=6, dimension=6, seed=seed))
    gains = Gains.of(pool, 72)
    end = refine_pairs(swap_until_saturated(halves(pool), 2, by_key), gains, iter(range(500)))
    # A few distances only: a fresh start cannot climb as high within them.
    for budget in (2, 4, 6):
        assert hardest_split(end, 2, gains, seed=seed, budget=budget).fid >= end.fid


def test_rounding_is_no_step() -> None:
    assert moves(10.0, 10.1, 1) and moves(10.0, 9.9, -1)
    assert not moves(10.0, 10.0 + 1e-10, 1) and not moves(10.0, 10.0 - 1e-10, -1)
    assert not moves(10.0, 9.9, 1) and not moves(10.0, 10.0, 1) and not moves(0.0, 0.0, -1)


def test_after_refinement_no_screened_pair_is_better() -> None:
    pool = Pool.of(make_features(classes=14, per_class=8, dimension=4, seed=3))
    gains = Gains.of(pool, 1000)
    sides = refine_pairs(halves(pool), gains, iter(range(1000)))
    assert sides.fid > halves(pool).fid
    better = [
        pair for pair in ((a, b) for a in sides.train for b in sides.test)
        if sides.exchange(np.array([pair[0]]), np.array([pair[1]])).fid > sides.fid * (1 + 1e-6)
    ]  # fmt: skip
    assert not better


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


def by_key(sides: Sides, sign: int) -> tuple[Any, Any]:
    train, test = sides.nearness
    return sides.train[np.argsort(sign * train)], sides.test[np.argsort(sign * test)]


def test_moments_do_not_drift_in_500_updates() -> None:
    pool = Pool.of(make_features(classes=40, per_class=12, dimension=16, seed=6))
    sides, random = halves(pool), np.random.default_rng(0)
    for _ in range(500):
        sides = sides.exchange(random.choice(sides.train, 2, False),
                               random.choice(sides.test, 2, False))  # fmt: skip
    fresh = Sides.of(pool, sides.train, sides.test)
    assert sides.moments is not None and fresh.moments is not None
    for updated, summed in zip(sides.moments, fresh.moments, strict=True):
        error = np.abs(updated.scatter - summed.scatter).max()
        assert error <= 1e-9 * np.abs(summed.scatter).max()
    assert sides.fid == pytest.approx(fresh.fid, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(8, 20),
    level=st.sampled_from(["sample", "class"]),
    search=st.sampled_from(["means", "transport", "best"]),
)
def test_trajectories_rise_from_the_easiest_to_the_hardest(
    seed: int, classes: int, level: str, search: str
) -> None:
    features = make_features(classes, 5, 4, seed)
    ladder = build_ladder(
        features, rungs=2, seed=seed, level=level, search=search, min_classes=3, null=0,
        budget=20 if search == "best" else None,
    )  # fmt: skip
    fids = [step.fid for step in ladder.trajectory]
    assert all(a < b for a, b in pairwise(fids))
    kinds = [step.kind for step in ladder.trajectory]
    start = kinds.index("start")
    assert set(kinds[:start]) <= {"easier"} and "easier" not in kinds[start:]
    train, test = (set(side) for side in sides_of(ladder.rungs[0]))
    for step in ladder.trajectory[1:]:
        assert set(step.to_test) <= train and set(step.to_train) <= test
        train = (train - set(step.to_test) - set(step.removed)) | set(step.to_train)
        test = (test - set(step.to_train) - set(step.removed)) | set(step.to_test)
        assert not train & test
        if step is ladder.trajectory[start]:
            drawn = random_split(features.class_names, seed=seed)
            assert (tuple(sorted(train)), tuple(sorted(test))) == sides_of(drawn)
    assert (tuple(sorted(train)), tuple(sorted(test))) == sides_of(ladder.rungs[-1])
    values = [features.values[features.of_classes(sorted(side))] for side in (train, test)]
    if level == "sample":
        assert fids[-1] == pytest.approx(frechet_distance(*values), rel=1e-8)


def sides_of(split: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return split.train_classes, split.test_classes
