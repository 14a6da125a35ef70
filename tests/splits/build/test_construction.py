from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import make_features
from hypothesis import given, settings
from hypothesis import strategies as st

from oodml.errors import UsageError
from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance
from oodml.splits.build.construction import build_ladder
from oodml.splits.build.rungs import choose_evenly
from oodml.splits.build.state import Pool, Sides
from oodml.splits.build.walk import HARDER, _removals, _swaps, by_nearness
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split, random_split


def published_keys(features: Features, split: Split, level: str) -> tuple[list[str], list[str]]:
    """Train and test classes by the published key, in NumPy from the formula alone."""
    mean = {
        name: features.values[features.labels == i].astype(np.float64).mean(0)
        for i, name in enumerate(features.class_names)
    }

    def center(names: tuple[str, ...]) -> np.ndarray:
        if level == "class":
            return np.mean([mean[name] for name in names], axis=0)
        return features.values[features.of_classes(names)].astype(np.float64).mean(0)

    train, test = center(split.train_classes), center(split.test_classes)

    def key(name: str, own: np.ndarray, other: np.ndarray) -> float:
        return float(np.linalg.norm(mean[name] - other) - np.linalg.norm(mean[name] - own))

    return (
        sorted(split.train_classes, key=lambda name: key(name, train, test)),
        sorted(split.test_classes, key=lambda name: key(name, test, train)),
    )


def unbalanced() -> Features:
    """Classes of 2 to 9 samples, so that weights by size matter."""
    features = make_features(classes=20, per_class=9, dimension=6, seed=3)
    keep = [i for i, label in enumerate(features.labels) if i % 9 < 2 + label % 8]
    return replace(features, values=features.values[keep], labels=features.labels[keep])


def sides_of(features: Features, split: Split, level: str) -> Sides:
    pool = Pool.of(features, level=level)
    return Sides.of(pool, pool.units(split.train_classes), pool.units(split.test_classes))


@pytest.mark.parametrize("level", ["sample", "class"])
def test_the_first_swaps_equal_the_published_rule(level: str) -> None:
    features = unbalanced()
    split = random_split(features.class_names)
    for _ in range(3):
        train_ranked, test_ranked = published_keys(features, split, level)
        sides = next(_swaps(sides_of(features, split, level), 2, by_nearness, HARDER))
        names = features.class_names
        after = Split(tuple(names[i] for i in sides.train), tuple(names[i] for i in sides.test))
        assert set(split.train_classes) - set(after.train_classes) == set(train_ranked[:2])
        assert set(split.test_classes) - set(after.test_classes) == set(test_ranked[:2])
        split = after


def test_a_removal_takes_the_classes_nearest_to_the_other_side() -> None:
    features = unbalanced()
    split = random_split(features.class_names)
    train_ranked, test_ranked = published_keys(features, split, "sample")
    sides = next(_removals(sides_of(features, split, "sample"), 3, 2))
    kept = {features.class_names[i] for i in (*sides.train, *sides.test)}
    assert set(features.class_names) - kept == {*train_ranked[:3], *test_ranked[:3]}
    assert (len(sides.train), len(sides.test)) == (7, 7)


def test_the_fid_along_a_trajectory_equals_that_of_the_samples() -> None:
    features = make_features(classes=30, per_class=10, dimension=12, seed=1)
    ladder = build_ladder(features, rungs=4, swap_size=3, easier=False)
    train = set(random_split(features.class_names).train_classes)
    test = set(features.class_names) - train
    for step in ladder.trajectory:
        train = (train - set(step.to_test) - set(step.removed)) | set(step.to_train)
        test = (test - set(step.to_train) - set(step.removed)) | set(step.to_test)
        a, b = (features.values[features.of_classes(sorted(side))] for side in (train, test))
        assert step.fid == pytest.approx(frechet_distance(a, b), rel=1e-9)
    rung = ladder.rungs[-1]
    assert (set(rung.train_classes), set(rung.test_classes)) == (train, test)
    assert len(ladder.trajectory) > 4 and {s.kind for s in ladder.trajectory} == {
        "start", "swap", "removal"
    }  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(8, 24),
    level=st.sampled_from(["sample", "class"]),
    swap_size=st.integers(1, 4),
)
def test_every_ladder_rises_and_accounts_for_every_class(
    seed: int, classes: int, level: str, swap_size: int
) -> None:
    features = make_features(classes, 5, 4, seed)
    ladder = build_ladder(
        features, rungs=2, seed=seed, level=level, swap_size=swap_size, min_classes=3
    )
    fids = [step.fid for step in ladder.trajectory]
    assert all(a < b for a, b in pairwise(fids))
    removed = {name for step in ladder.trajectory for name in step.removed}
    for rung in ladder.rungs:
        kept = set(rung.train_classes) | set(rung.test_classes)
        assert kept | removed >= set(features.class_names)
        assert not set(rung.train_classes) & set(rung.test_classes)
        assert min(len(rung.train_classes), len(rung.test_classes)) >= 3
    last = ladder.rungs[-1]
    assert set(last.train_classes) | set(last.test_classes) == set(features.class_names) - removed


def test_a_ladder_does_not_depend_on_class_order_or_global_random_state(tmp_path: Path) -> None:
    features = make_features()
    order = np.random.default_rng(5).permutation(len(features.class_names))
    renumber = np.empty_like(order)
    renumber[order] = np.arange(len(order))
    shuffled = replace(
        features,
        class_names=tuple(features.class_names[i] for i in order),
        labels=renumber[features.labels],
    )
    build_ladder(features, rungs=3).save(tmp_path / "a.json")
    np.random.seed(1)  # noqa: NPY002
    build_ladder(features, rungs=3).save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    one, other = build_ladder(features, rungs=3), build_ladder(shuffled, rungs=3)
    assert [rung.id for rung in one.rungs] == [rung.id for rung in other.rungs]
    assert [r.fid for r in one.rungs] == pytest.approx([r.fid for r in other.rungs], rel=1e-9)


def test_a_step_that_does_not_raise_fid_is_tried_smaller() -> None:
    features = make_features(classes=20, per_class=6, dimension=4, seed=2)
    ladder = build_ladder(features, rungs=2, swap_size=10, min_classes=10, easier=False)
    sizes = [len(step.to_test) for step in ladder.trajectory if step.kind == "swap"]
    # Exchanging both sides whole changes nothing, so the first accepted step is smaller.
    assert sizes and max(sizes) < 10 and sizes == sorted(sizes, reverse=True)


def test_rungs_are_the_best_choice_for_even_spacing() -> None:
    fids = [1.0, 1.1, 1.2, 4.0, 5.5, 6.0, 9.0, 10.0]
    chosen = choose_evenly(fids, 4)
    targets = np.linspace(1, 10, 4)

    def cost(indices: tuple[int, ...]) -> float:
        return float(sum(abs(fids[i] - t) for i, t in zip(indices, targets, strict=True)))

    best = min(((0, *middle, 7) for middle in combinations(range(1, 7), 2)), key=cost)
    assert tuple(chosen) == best
    assert choose_evenly(fids, 8) == list(range(8))


@pytest.mark.parametrize(
    ("given_settings", "words"),
    [
        ({"rungs": 1}, "at least 2"),
        ({"rungs": 500}, "at most, or a smaller swap_size"),
        ({"level": "image"}, "'sample' and 'class'"),
        ({"swap_size": 0}, "swap size 0"),
        ({"swap_size": 99}, "swap size 99"),
        ({"min_classes": 1}, "min classes 1"),
        ({"min_classes": 99}, "min classes 99"),
        ({"train_fraction": 1.5}, "1.5"),
    ],
)
def test_impossible_settings_are_refused(
    features: Features, given_settings: dict[str, float], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        build_ladder(features, **{"rungs": 3, **given_settings})  # type: ignore[arg-type]


def test_a_ladder_can_start_from_a_given_split(features: Features) -> None:
    start = Split(features.class_names[:6], features.class_names[6:])
    ladder = build_ladder(features, rungs=2, start=start, easier=False)
    assert ladder.rungs[0].id == start.id
    assert isinstance(ladder, Ladder)
