from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import UsageError
from oodml.features.features import Features
from oodml.splits.build import build_ladder
from oodml.splits.split import Split, random_split

Way = list[tuple[frozenset[str], float]]


def fid_of_means(train: np.ndarray, test: np.ndarray) -> float:
    """The textbook formula with a general square root by eigenvalues."""
    first, second = (np.cov(side, rowvar=False) for side in (train, test))
    root = np.sqrt(np.clip(np.linalg.eigvals(first @ second).real, 0, None)).sum()
    difference = train.mean(0) - test.mean(0)
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * root)


def published(features: Features, split: Split, steps: int, memory: int, sign: int) -> Way:
    """The published swaps from their description: list positions are tabu, not classes."""
    mean = {
        name: features.values[features.labels == i].astype(np.float64).mean(0)
        for i, name in enumerate(features.class_names)
    }
    sides = [list(split.train_classes), list(split.test_classes)]
    slots: list[list[int]] = [[], []]
    way = []
    for _ in range(steps):
        centres = [np.mean([mean[name] for name in side], axis=0) for side in sides]
        orders = [
            np.argsort([sign * (np.linalg.norm(mean[name] - centres[1 - own])
                                - np.linalg.norm(mean[name] - centres[own]))
                        for name in sides[own]])
            for own in (0, 1)
        ]  # fmt: skip
        picks = []
        for k in range(2):
            pair = []
            for own in (0, 1):
                slot = next(int(j) for j in orders[own][k:] if int(j) not in slots[own][-memory:])
                slots[own].append(slot)
                pair.append(slot)
            picks.append(pair)
        for first, second in picks:
            sides[0][first], sides[1][second] = sides[1][second], sides[0][first]
        arrays = [np.array([mean[name] for name in side]) for side in sides]
        way.append((frozenset(sides[0]), fid_of_means(*arrays)))
    return way


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_swaps_equal_an_independent_reference(seed: int) -> None:
    features = make_features(classes=90, per_class=4, dimension=6, seed=seed)
    ladder = build_ladder(features, search="milbich2021", seed=seed, rungs=2)
    assert (ladder.settings.level, ladder.settings.swap_size) == ("class", 2)
    start = random_split(features.class_names, seed=seed)
    train = set(start.train_classes)
    origin = [step.kind for step in ladder.trajectory].index("start")
    lowest = ladder.trajectory[origin].fid
    expected = published(features, start, 24, 5, +1)
    for step in ladder.trajectory[origin + 1 :]:
        if step.kind != "swap" or step.fid > max(fid for _, fid in expected) * (1 + 1e-9):
            break
        train = (train - set(step.to_test)) | set(step.to_train)
        there = next(i for i, (names, _) in enumerate(expected) if names == frozenset(train))
        assert step.fid == pytest.approx(expected[there][1], rel=1e-8)
        # What was walked through without record did not exceed what had been reached.
        assert all(fid <= lowest for _, fid in expected[:there])
        lowest, expected = step.fid, expected[there + 1 :]
    assert len(expected) < 24
    assert max(fid for _, fid in published(features, start, 24, 5, +1)) <= lowest * (1 + 1e-9)
    train = set(start.train_classes)
    expected = published(features, start, 14, 30, -1)
    for step in reversed(ladder.trajectory[1 : origin + 1]):
        train = (train - set(step.to_train)) | set(step.to_test)
        there = next(i for i, (names, _) in enumerate(expected) if names == frozenset(train))
        assert ladder.trajectory[0].fid <= expected[there][1] * (1 + 1e-8)
    least = min(fid for _, fid in expected)
    assert origin > 0 and ladder.trajectory[0].fid == pytest.approx(least, rel=1e-8)


def test_removal_follows_and_fid_rises_to_the_end() -> None:
    features = make_features(classes=60, per_class=4, dimension=6)
    ladder = build_ladder(features, search="milbich2021", rungs=4, min_classes=24)
    fids = [step.fid for step in ladder.trajectory]
    assert all(a < b for a, b in pairwise(fids))
    assert ladder.trajectory[-1].kind in ("removal", "swap")
    assert any(step.removed for step in ladder.trajectory)
    assert min(len(ladder.rungs[-1].train_classes), len(ladder.rungs[-1].test_classes)) >= 24


@pytest.mark.parametrize(
    "given", [{"budget": 3}, {"level": "sample"}, {"by": "group"}]
)  # fmt: skip
def test_the_published_procedure_takes_no_other_search(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="milbich2021"):
        build_ladder(make_features(), search="milbich2021", **given)  # type: ignore[arg-type]
