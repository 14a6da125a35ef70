"""The walk to what the search found: the shorter way, and removals go on from where it ends."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_features

from oodml.splits import build
from oodml.splits.build import build_ladder
from oodml.splits.state import Pool, Sides, Units
from oodml.splits.walk import by_nearness, forget, walk_to


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
    for search in ("transport", "best"):
        ladder = build_ladder(
            features,
            search=search,
            budget=60 if search == "best" else None,
            rungs=2,
            swap_size=3,
            min_classes=4,
        )
        fids[search] = max(s.fid for s in ladder.trajectory if s.kind != "removal")
        assert ladder.trajectory[-1].kind == "removal"
        assert ladder.trajectory[-1].fid > fids[search]
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
