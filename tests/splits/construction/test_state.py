"""Pools, sides and their distances, in any number of threads, against the samples themselves."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_features
from threadpoolctl import threadpool_limits

from oodml.errors import DataError
from oodml.features.features import Features
from oodml.fid.frechet import FrechetTerms, frechet_distance
from oodml.parallel import side_by_side
from oodml.splits.construction import state
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.construction.state import Pool, Sides, is_tight, measured
from oodml.splits.construction.walk import (
    HARDER,
    _swaps,
    by_nearness,
)
from oodml.splits.split import random_split

FEATURES = make_features(classes=16, per_class=40, dimension=12, seed=5)


@pytest.mark.parametrize(
    ("search", "level"), [("means", "sample"), ("transport", "sample"), ("best", "sample"),
                          ("transport", "class")]
)  # fmt: skip
def test_a_ladder_has_the_same_bytes_on_any_number_of_workers(
    search: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "FEWEST_POINTS", 2)
    written = set()
    for workers in (1, 2, 4):
        with side_by_side(workers):
            ladder = build_ladder(
                FEATURES, rungs=3, swap_size=3, search=search, level=level, min_classes=4, null=3,
                budget=12 if search == "best" else None,
            )  # fmt: skip
        ladder.save(tmp_path / "ladder.json")
        written.add((tmp_path / "ladder.json").read_bytes())
    assert len(written) == 1


def test_a_ladder_has_the_same_bytes_on_any_number_of_blas_threads(tmp_path: Path) -> None:
    features = make_features(classes=8, per_class=160, dimension=520, seed=2)
    written = set()
    for threads in (1, 2):
        with threadpool_limits(limits=threads, user_api="blas"):
            build_ladder(features, rungs=2, easier=False, null=2).save(tmp_path / "ladder.json")
        written.add((tmp_path / "ladder.json").read_bytes())
    assert len(written) == 1


def test_distances_of_several_splits_are_computed_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    met, exact = threading.Barrier(2, timeout=60), state.split_terms

    def meeting(*arguments: Any, **options: Any) -> Any:
        met.wait()
        return exact(*arguments, **options)

    monkeypatch.setattr(state, "split_terms", meeting)
    pool = Pool.of(FEATURES)
    splits = [Sides.of(pool, np.arange(n), np.arange(n, 16)) for n in (7, 8)]
    with side_by_side(2):
        assert list(measured(splits)) == splits


@pytest.mark.parametrize(("workers", "drawn"), [(1, 1), (3, 4)])
def test_no_more_steps_are_measured_ahead_than_there_are_workers(workers: int, drawn: int) -> None:
    pool = Pool.of(FEATURES)
    split = random_split(FEATURES.class_names)
    start = Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))
    proposed: list[Sides] = []

    def steps() -> object:
        for sides in _swaps(start, 1, by_nearness, HARDER):
            proposed.append(sides)
            yield sides

    with side_by_side(workers):
        ahead = measured(steps())  # type: ignore[arg-type]
        assert next(ahead) is proposed[0]
        assert len(proposed) == drawn
        assert list(islice(ahead, 4)) == proposed[1:5]
    for sides, alone in zip(proposed, _swaps(start, 1, by_nearness, HARDER), strict=False):
        assert sides.train.tolist() == alone.train.tolist() and sides.terms == alone.terms


def halves(pool: Pool) -> Sides:
    split = random_split(pool.statistics.class_names)
    return Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))


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


def test_a_distance_that_is_all_mean_is_tight() -> None:
    assert is_tight(FrechetTerms(1.0, 0.0, 0.0))
    assert not is_tight(FrechetTerms(1.0, 1.0, 1e-8))


def test_a_groups_mean_is_that_of_its_points() -> None:
    features = make_features(classes=12, per_class=9, dimension=3)
    kept = np.flatnonzero(np.arange(len(features)) % 9 < 2 + features.labels % 7)
    features = replace(
        features,
        values=features.values[kept],
        labels=features.labels[kept],
        groups=tuple("cabcabccbaab"),
    )
    found = Pool.of(features, by="group")
    of_class = [ord(group) - ord("a") for group in features.groups or ()]
    group = np.array(of_class)[features.labels]
    centre = features.values.mean(axis=0, dtype=np.float64)
    for number in range(3):
        expected = features.values[group == number].mean(axis=0, dtype=np.float64) - centre
        np.testing.assert_allclose(found.statistics.means[number], expected, atol=1e-6)
        assert found.sizes[number] == found.statistics.counts[number] == (group == number).sum()
        assert found.classes[number] == 4
        assert found.squares[number] == pytest.approx(expected @ expected, rel=1e-4)


def test_points_of_a_group_stand_in_the_order_of_its_classes() -> None:
    groups = tuple("xy"[i] for i in np.random.default_rng(0).integers(0, 2, 90))
    features = replace(make_features(classes=90, per_class=2, dimension=2), groups=groups)
    found = Pool.of(features, by="group")
    for number, members in enumerate(found.members):
        own = np.concatenate([features.values[features.of_classes([name])] for name in members])
        start, end = found.statistics.starts[number : number + 2]
        assert (found.statistics.values[start:end] == own).all()


def test_classes_that_a_pool_does_not_have_are_named(features: Features) -> None:
    pool = Pool.of(replace(features, groups=tuple("abcdefgh" * 3)), by="group")
    with pytest.raises(DataError, match=r"^1 class.* without features, such as 'nobody'"):
        pool.units([*features.class_names, "nobody"])
