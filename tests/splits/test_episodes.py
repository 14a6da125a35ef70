from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.splits.episodes import (
    class_folds,
    few_shot_episodes,
    validation_fold,
    validation_of,
)
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split


def named(features: Features) -> Features:
    return replace(features, sample_names=tuple(f"{i:04d}" for i in range(len(features))))


@pytest.mark.parametrize(("classes", "held_out"), [(98, 25), (86, 22), (74, 19), (62, 16)])
def test_validation_classes_are_as_many_as_published(classes: int, held_out: int) -> None:
    split = Split(tuple(f"c{i:02d}" for i in range(classes)), ("x", "y"))
    fold = validation_fold(split, seed=1)
    assert len(fold.validation_classes) == held_out
    assert sorted(fold.fit_classes + fold.validation_classes) == list(split.train_classes)
    assert fold == validation_fold(split, seed=1) != validation_fold(split, seed=2)


@pytest.mark.parametrize("fraction", [0.0, 1.0, 0.01, 0.99, float("nan")])
def test_an_impossible_validation_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="at least 1 must be held out"):
        validation_fold(Split(("a", "b", "c"), ("d",)), fraction=fraction)


def test_published_validation_classes_win(ladder: Ladder) -> None:
    held_out = tuple(rung.train_classes[:2] for rung in ladder.rungs)
    published = replace(ladder, validation=held_out)
    assert validation_of(published, 1).validation_classes == held_out[1]
    assert validation_of(ladder, 1) == validation_fold(ladder.rungs[1])
    with pytest.raises(DataError, match="outside its train classes"):
        replace(ladder, validation=(("no class",), *held_out[1:]))


def test_folds_are_disjoint_and_cover(ladder: Ladder) -> None:
    split = ladder.rungs[0]
    folds = class_folds(split, 5, seed=2)
    held_out = [name for fold in folds for name in fold.validation_classes]
    assert sorted(held_out) == list(split.train_classes)
    assert {len(fold.validation_classes) for fold in folds} <= {2, 3}
    for fold in folds:
        assert not set(fold.fit_classes) & set(fold.validation_classes)
    for wrong in (1, 99):
        with pytest.raises(UsageError, match="folds of 12"):
            class_folds(split, wrong)


def test_fewer_shots_are_part_of_more(ladder: Ladder, features: Features) -> None:
    split = ladder.rungs[0]
    episodes = few_shot_episodes(split, features, shots=(2, 5), episodes=3, seed=4)
    by = {(e.shots, e.number): e for e in episodes}
    assert list(by) == [(s, n) for s in (2, 5) for n in range(3)]
    test_rows = set(features.of_classes(split.test_classes).tolist())
    for (shots, number), episode in by.items():
        support, query = set(episode.support.tolist()), set(episode.query.tolist())
        assert support | query == test_rows and not support & query
        counts = np.bincount(features.labels[episode.support])
        assert set(counts[counts > 0]) == {shots}
        assert set(by[2, number].support.tolist()) <= set(by[5, number].support.tolist())
    assert not np.array_equal(by[2, 0].support, by[2, 1].support)


def test_an_episode_depends_on_names_seed_and_split_only(
    ladder: Ladder, features: Features
) -> None:
    split, whole = ladder.rungs[0], named(features)
    order = np.random.default_rng(0).permutation(len(whole))
    shuffled = replace(
        whole,
        values=whole.values[order],
        labels=whole.labels[order],
        sample_names=tuple(whole.sample_names[i] for i in order),
    )

    def chosen(samples: Features, seed: int = 0, **options: object) -> list[list[str]]:
        return [
            sorted(samples.sample_names[row] for row in episode.support)
            for episode in few_shot_episodes(split, samples, shots=(2,), seed=seed)
        ]

    assert chosen(whole) == chosen(shuffled)
    assert chosen(whole) != chosen(whole, seed=1)
    both = few_shot_episodes(split, whole, shots=(2, 5))
    assert [e.support.tolist() for e in both if e.shots == 2] == [
        e.support.tolist() for e in few_shot_episodes(split, whole, shots=(2,))
    ]


def test_classes_that_are_too_small_are_left_out_and_named(
    ladder: Ladder, features: Features
) -> None:
    split = ladder.rungs[0]
    small = split.test_classes[0]
    rows = features.of_classes([small])[6:]  # 6 of 8 remain: enough for 2 shots, not for 5
    keep = np.setdiff1d(np.arange(len(features)), rows)
    fewer = replace(features, values=features.values[keep], labels=features.labels[keep])
    two, five = few_shot_episodes(split, fewer, shots=(2, 5), episodes=1)
    assert two.left_out == () and five.left_out == (small,)
    gone = set(fewer.of_classes([small]).tolist())
    assert not gone & set(five.support.tolist() + five.query.tolist())
    with pytest.raises(DataError, match=r"no test class .* has 12 samples"):
        few_shot_episodes(split, fewer, shots=(10,))
    with pytest.raises(UsageError, match="above 0"):
        few_shot_episodes(split, fewer, shots=(0,))
    with pytest.raises(DataError, match="no samples"):
        few_shot_episodes(Split(("a",), ("nothing",)), fewer)


def test_the_fewest_classes_shots_and_episodes(ladder: Ladder, features: Features) -> None:
    assert [len(fold.fit_classes) for fold in class_folds(ladder.rungs[0], 12)] == [11] * 12
    (episode,) = few_shot_episodes(ladder.rungs[0], features, shots=(1,), episodes=1)
    assert (episode.shots, len(episode.support)) == (1, len(ladder.rungs[0].test_classes))
    for wrong in ({"shots": ()}, {"shots": (2, 0)}, {"episodes": 0}):
        with pytest.raises(UsageError, match="give numbers above 0"):
            few_shot_episodes(ladder.rungs[0], features, **wrong)  # type: ignore[arg-type]


def test_a_rungs_validation_classes_are_as_many_as_asked_for(ladder: Ladder) -> None:
    for fraction in (0.25, 0.5):
        fold = validation_of(ladder, 1, fraction=fraction, seed=3)
        assert fold == validation_fold(ladder.rungs[1], fraction=fraction, seed=3)
        assert len(fold.validation_classes) == round(fraction * 12)
