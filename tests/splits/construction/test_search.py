"""The search for the hardest split, against all splits of small pools."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from conftest import make_features

from oodml.splits.construction import search as search_module
from oodml.splits.construction import state as state_module
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.construction.search import hardest_split, refine_pairs
from oodml.splits.construction.state import Pool, Sides
from oodml.splits.construction.transport_gain import Gains
from oodml.splits.construction.walk import (
    swap_until_saturated,
    walk_to,
)
from oodml.splits.split import random_split


def halves(pool: Pool) -> Sides:
    split = random_split(pool.statistics.class_names)
    return Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))


def by_key(sides: Sides, sign: int) -> tuple[Any, Any]:
    train, test = sides.nearness
    return sides.train[np.argsort(sign * train)], sides.test[np.argsort(sign * test)]


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


def test_kicks_alone_lead_out_of_where_no_pair_of_units_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_module, "FRESH_STARTS", 0.0)
    pool = Pool.of(make_features(classes=14, per_class=12, dimension=4))
    gains, order = Gains.of(pool, 84), np.random.default_rng(0).permutation(14)
    begin = Sides.of(pool, order[:7], order[7:])
    refined = refine_pairs(begin, gains, iter(range(80)))
    found = hardest_split(begin, 2, gains, seed=0, budget=80)
    assert begin.fid < refined.fid < 0.99 * found.fid


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

    monkeypatch.setattr(search_module, "walk_to", listening)
    features = make_features(classes=12, per_class=6, dimension=3, seed=7)
    build_ladder(features, search="best", budget=60, rungs=2, swap_size=3, min_classes=4)
    assert asked == [3]
