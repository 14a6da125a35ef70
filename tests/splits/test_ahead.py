"""Steps measured ahead: the walk takes the same way, however many distances are under way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_features
from threadpoolctl import threadpool_limits

from oodml.fid.frechet import FrechetTerms, frechet_distance
from oodml.fid.side_by_side import side_by_side
from oodml.splits import ahead, carry
from oodml.splits.ahead import Ahead
from oodml.splits.build import build_ladder
from oodml.splits.carry import Carry
from oodml.splits.ladder_null import add_null
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
    monkeypatch.setattr(carry, "LEAST_DIMENSION", 2)
    monkeypatch.setattr(carry, "MOST_POINTS", 20.0)
    written = set()
    for workers in (1, 2, 4):
        with side_by_side(workers):
            ladder = build_ladder(
                FEATURES, rungs=3, swap_size=3, search=search, level=level, min_classes=4,
                budget=12 if search == "best" else None,
            )  # fmt: skip
            ladder = add_null(ladder, FEATURES, 3)
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


def test_a_walk_that_carries_its_distances_equals_the_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[int] = []
    terms = Carry.terms

    def counted(self: Carry, tolerance: float) -> FrechetTerms | None:
        found = terms(self, tolerance)
        used.append(self.steps if found else 0)
        return found

    monkeypatch.setattr(carry, "LEAST_DIMENSION", 2)
    monkeypatch.setattr(carry, "MOST_POINTS", 10.0)
    monkeypatch.setattr(carry, "MOST_STEPS", 3)
    monkeypatch.setattr(Carry, "terms", counted)
    features = make_features(classes=24, per_class=20, dimension=10, seed=5)
    ladder = build_ladder(features, rungs=2, swap_size=2, min_classes=6)
    # Anchors and what follows them take turns, three at most on one anchor.
    assert {0, 1, 2, 3} == set(used) and used.count(0) < len(used) / 2
    assert "removal" in {step.kind for step in ladder.trajectory}
    train, test = set(ladder.rungs[0].train_classes), set(ladder.rungs[0].test_classes)
    for step in ladder.trajectory[1:]:
        train = (train | set(step.to_train)) - set(step.to_test) - set(step.removed)
        test = (test | set(step.to_test)) - set(step.to_train) - set(step.removed)
        sides = (features.values[features.of_classes(sorted(names))] for names in (train, test))
        assert step.fid == pytest.approx(frechet_distance(*sides), rel=1e-10)


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
                        moments=None)  # fmt: skip
        Ahead(step).candidate(small, 1)
        assert len(proposed) == 1 + 4 + 1
