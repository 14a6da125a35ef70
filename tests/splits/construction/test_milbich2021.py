"""The published construction against a second one, written from its description with lists."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import UsageError
from oodml.features.features import Features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.construction.milbich2021 import _Memory, _picks
from oodml.splits.construction.state import Pool, Sides
from oodml.splits.construction.walk import HARDER
from oodml.splits.split import random_split

Record = tuple[frozenset[str], frozenset[str], float]


class Reference:
    """Two lists of class names; positions in them, not classes, are barred for some picks."""

    def __init__(self, features: Features, seed: int) -> None:
        self.mean = {
            name: features.values[features.labels == i].astype(np.float64).mean(0)
            for i, name in enumerate(features.class_names)
        }
        start = random_split(features.class_names, seed=seed)
        self.sides = [list(start.train_classes), list(start.test_classes)]
        self.barred: list[list[int | None]] = [[], []]

    def fid(self) -> float:
        """The textbook formula on class means, with a general square root by eigenvalues."""
        train, test = (np.array([self.mean[name] for name in side]) for side in self.sides)
        first, second = (np.cov(side, rowvar=False) for side in (train, test))
        root = np.sqrt(np.clip(np.linalg.eigvals(first @ second).real, 0, None)).sum()
        difference = train.mean(0) - test.mean(0)
        return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * root)

    def record(self) -> Record:
        return frozenset(self.sides[0]), frozenset(self.sides[1]), self.fid()

    def picks(self, memory: int, sign: int) -> list[list[int]]:
        """Two positions on each side from one ranking; the k-th is looked for from rank k on."""
        centres = [np.mean([self.mean[name] for name in side], axis=0) for side in self.sides]
        found: list[list[int]] = [[], []]
        for own, side in enumerate(self.sides):
            keys = [
                sign * (np.linalg.norm(self.mean[name] - centres[1 - own])
                        - np.linalg.norm(self.mean[name] - centres[own]))
                for name in side
            ]  # fmt: skip
            order, barred = np.argsort(keys).tolist(), self.barred[own]
            for k in range(2):
                place = next(j for j in order[k:] if j not in barred[-memory:])
                barred.append(place)
                found[own].append(place)
        return found

    def swap(self, picks: list[list[int]]) -> None:
        for first, second in zip(*picks, strict=True):
            train, test = self.sides
            train[first], test[second] = test[second], train[first]

    def delete(self, picks: list[list[int]], count: int) -> None:
        """Positions behind a deleted one move up, and so does what bars them (deviation S4)."""
        for own, places in enumerate(picks):
            gone = sorted(places[:count])
            self.sides[own] = [n for i, n in enumerate(self.sides[own]) if i not in gone]
            self.barred[own] = [
                None if j is None or j in gone else j - sum(place < j for place in gone)
                for j in self.barred[own][:-2]
            ]


def swaps(reference: Reference, steps: int, memory: int, sign: int) -> list[Record]:
    """The records beyond all before; the reference is left at the last of them."""
    best, made, lists = reference.fid(), [], [list(side) for side in reference.sides]
    for _ in range(steps):
        reference.swap(reference.picks(memory, sign))
        if sign * (reference.fid() - best) > 1e-9 * best:
            best, lists = reference.fid(), [list(side) for side in reference.sides]
            made.append(reference.record())
    reference.sides = lists
    return made


def removals(reference: Reference, fewest: int) -> tuple[list[Record], int, int]:
    """The records of removal, begun with nothing barred, and how many were swaps and removals."""
    reference.barred = [[], []]
    best, made, counts = reference.fid(), [], [0, 0]
    for _ in range(34):
        before = reference.fid()
        picks = reference.picks(5, HARDER)
        reference.swap(picks)
        if reference.fid() - before > 1e-9 * before:
            counts[0] += 1
        else:
            reference.swap(picks)
            spare = min(len(side) for side in reference.sides) - fewest
            if spare <= 0:
                break
            reference.delete(picks, min(2, spare))
            counts[1] += 1
        if reference.fid() - best > 1e-9 * best:
            best = reference.fid()
            made.append(reference.record())
    return made, counts[0], counts[1]


@pytest.mark.parametrize("seed", range(12))
def test_a_trajectory_equals_an_independent_reference(seed: int) -> None:
    features = make_features(classes=90, per_class=4, dimension=6, seed=seed)
    ladder = build_ladder(
        features, search="milbich2021", seed=seed, rungs=2, min_classes=20, null=0
    )
    assert (ladder.settings.level, ladder.settings.swap_size) == ("class", 2)
    easier, reference = Reference(features, seed), Reference(features, seed)
    start = reference.record()
    expected = [*reversed(swaps(easier, 14, 30, -1)), start, *swaps(reference, 24, 5, HARDER)]
    removed, swapped, deleted = removals(reference, 20)
    expected += removed
    assert len(ladder.trajectory) == len(expected) and deleted > 5
    train, test = (set(side) for side in expected[0][:2])
    for step, (train_then, test_then, fid) in zip(ladder.trajectory, expected, strict=True):
        train = (train - set(step.to_test) - set(step.removed)) | set(step.to_train)
        test = (test - set(step.to_train) - set(step.removed)) | set(step.to_test)
        assert (train, test) == (train_then, test_then)
        assert step.fid == pytest.approx(fid, rel=1e-8)
    assert ladder.stopped.startswith(f"24 swaps, then {deleted} removals and {swapped} swaps")


def test_removal_keeps_the_fewest_classes_and_says_so() -> None:
    features = make_features(classes=60, per_class=4, dimension=6)
    ladder = build_ladder(features, search="milbich2021", rungs=4, min_classes=24, null=0)
    assert any(step.removed for step in ladder.trajectory)
    assert min(len(ladder.rungs[-1].train_classes), len(ladder.rungs[-1].test_classes)) >= 24
    assert "min classes 24" in ladder.stopped


def test_as_many_are_picked_on_either_side() -> None:
    pool = Pool.of(make_features(classes=8, per_class=3, dimension=4), level="class")
    sides = Sides.of(pool, np.arange(2), np.arange(2, 8))
    to_test, to_train = _picks(sides, 2, HARDER, _Memory(5, train=(0,), test=()))
    assert to_test.tolist() == [1] and len(to_train) == 1


@pytest.mark.parametrize("given", [{"budget": 3}, {"level": "sample"}, {"by": "group"}])
def test_it_takes_no_other_level_unit_or_budget(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="milbich2021"):
        build_ladder(make_features(), search="milbich2021", **given)  # type: ignore[arg-type]
