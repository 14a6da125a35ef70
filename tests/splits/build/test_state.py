"""Splits under way: the walk takes the same way, however many distances are measured at once."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_features
from threadpoolctl import threadpool_limits

from oodml.parallel import side_by_side
from oodml.splits.build.construction import build_ladder, state
from oodml.splits.build.state import Pool, Sides, measured
from oodml.splits.build.walk import HARDER, _swaps, by_nearness
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
    met, exact = threading.Barrier(2, timeout=10), state.split_terms

    def meeting(*arguments: Any, **options: Any) -> Any:
        met.wait()
        return exact(*arguments, **options)

    monkeypatch.setattr(state, "split_terms", meeting)
    pool = Pool.of(FEATURES)
    splits = [Sides.of(pool, np.arange(n), np.arange(n, 16)) for n in (7, 8)]
    with side_by_side(2):
        assert list(measured(splits)) == splits


@pytest.mark.parametrize(("workers", "drawn"), [(1, 1), (3, 3)])
def test_as_many_steps_are_measured_ahead_as_there_are_workers(workers: int, drawn: int) -> None:
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
        assert len(proposed) == drawn and all("_terms" in vars(sides) for sides in proposed[1:])
        assert list(islice(ahead, 4)) == proposed[1:5]
    for sides, alone in zip(proposed, _swaps(start, 1, by_nearness, HARDER), strict=False):
        assert sides.train.tolist() == alone.train.tolist() and sides.terms == alone.terms
