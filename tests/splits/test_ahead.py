"""Steps measured ahead: the walk takes the same way, however many distances are under way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_features
from threadpoolctl import threadpool_limits

from oodml.fid.side_by_side import side_by_side
from oodml.splits import ahead
from oodml.splits.ahead import Ahead
from oodml.splits.build import build_ladder
from oodml.splits.controls import add_controls, add_null
from oodml.splits.pool import Pool
from oodml.splits.sides import Sides
from oodml.splits.split import random_split
from oodml.splits.swap import swap_step

FEATURES = make_features(classes=16, per_class=40, dimension=12, seed=5)


@pytest.mark.parametrize(
    ("search", "level"), [("published", "sample"), ("gain", "sample"), ("best", "sample"),
                          ("gain", "class")]
)  # fmt: skip
def test_a_ladder_has_the_same_bytes_on_any_number_of_workers(
    search: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FEWEST_POINTS", 2)
    written = set()
    for workers in (1, 2, 4):
        with side_by_side(workers):
            ladder = build_ladder(
                FEATURES, rungs=3, swap_size=3, search=search, level=level, min_classes=4,
                budget=12 if search == "best" else None,
            )  # fmt: skip
            ladder = add_controls(add_null(ladder, FEATURES, 3), FEATURES)
        ladder.save(tmp_path / "ladder.json")
        written.add((tmp_path / "ladder.json").read_bytes())
    assert len(written) == 1


def test_a_ladder_has_the_same_bytes_on_any_number_of_blas_threads(tmp_path: Path) -> None:
    features = make_features(classes=8, per_class=160, dimension=520, seed=2)
    written = set()
    for threads in (1, 2):
        with threadpool_limits(limits=threads, user_api="blas"):
            build_ladder(features, rungs=2, easier=False).save(tmp_path / "ladder.json")
        written.add((tmp_path / "ladder.json").read_bytes())
    assert len(written) == 1


def test_candidates_follow_the_steps_that_are_taken() -> None:
    pool = Pool.of(FEATURES)
    split = random_split(FEATURES.class_names)
    start = Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))

    def step(sides: Sides, size: int) -> Sides | None:
        return swap_step(sides, size)[0] if size < 5 else None

    with side_by_side(2):
        way = Ahead(step)
        first = way.candidate(start, 2)
        second = way.candidate(first, 2)
        refused = way.candidate(start, 1)
        after = way.candidate(refused, 1)
        assert way.candidate(after, 7) is None
        for before, size, candidate in (
            (start, 2, first), (first, 2, second), (start, 1, refused), (refused, 1, after),
        ):  # fmt: skip
            expected = swap_step(before, size)[0]
            assert candidate.train.tolist() == expected.train.tolist()
            assert candidate.terms == expected.terms


def test_distances_to_come_are_under_way_before_they_are_needed() -> None:
    pool = Pool.of(FEATURES)
    split = random_split(FEATURES.class_names)
    start = Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))
    proposed: list[Sides] = []

    def step(sides: Sides, size: int) -> Sides:
        proposed.append(swap_step(sides, size)[0])
        return proposed[-1]

    with side_by_side(1):
        Ahead(step).candidate(start, 1)
        assert len(proposed) == 1
    with side_by_side(3):
        way = Ahead(step)
        way.candidate(start, 1)
        assert len(proposed) == 1 + 4
        assert all("measurement" in vars(sides) for sides in proposed[1:])
        small = replace(start, train=start.train[:2], test=start.test[:2],
                        train_moments=None, test_moments=None)  # fmt: skip
        Ahead(step).candidate(small, 1)
        assert len(proposed) == 1 + 4 + 1
