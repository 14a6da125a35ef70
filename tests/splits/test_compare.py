from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from oodml.errors import DataError
from oodml.features.features import Features
from oodml.splits.compare import compare_ladders, published_keys, start_split
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.construction.start import drawn_split
from oodml.splits.construction.state import Pool
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split, random_split


def turned(features: Features, noise: float, seed: int = 0) -> Features:
    """The same images under another network: rotated, scaled, and with some noise of its own."""
    random = np.random.default_rng(seed)
    dimension = features.values.shape[1]
    rotation = np.linalg.qr(random.standard_normal((dimension, dimension)))[0]
    values = 3 * features.values @ rotation + noise * random.standard_normal(features.values.shape)
    source = replace(features.source, backbone="another")
    return replace(features, values=values.astype(np.float32), source=source)


def test_a_rotated_network_builds_the_same_ladder(ladder: Ladder, features: Features) -> None:
    other = turned(features, 0)
    agreement = compare_ladders(
        ladder, build_ladder(other, rungs=3, swap_size=2), (features, other)
    )
    assert agreement.same_start
    assert agreement.curve_distance == pytest.approx(0, abs=1e-4)
    assert agreement.key_correlation == pytest.approx(1, abs=1e-3)
    for rung in agreement.rungs:
        assert rung.rung == rung.other_rung
        assert rung.jaccard_train == rung.jaccard_test == 1
        assert rung.jaccard_moved in (None, 1)
        assert 0.3 < rung.chance < 0.36 or rung.rung == 2


def test_noise_lowers_every_agreement(ladder: Ladder, features: Features) -> None:
    other = turned(features, 12)
    agreement = compare_ladders(
        ladder, build_ladder(other, rungs=3, swap_size=2), (features, other)
    )
    last = agreement.rungs[-1]
    assert last.jaccard_train < 1 and last.jaccard_moved is not None and last.jaccard_moved < 1
    assert agreement.key_correlation is not None and agreement.key_correlation < 0.99
    a, b = ladder.rungs[-1], build_ladder(other, rungs=3, swap_size=2).rungs[-1]
    common = set(a.train_classes) & set(b.train_classes)
    expected = len(common) / len(set(a.train_classes) | set(b.train_classes))
    assert last.jaccard_train == expected


def test_keys_are_those_of_the_formula(ladder: Ladder, features: Features) -> None:
    split = ladder.rungs[0]
    keys = published_keys(features, split)
    train, test = (features.values[features.of_classes(side)].mean(axis=0)
                   for side in (split.train_classes, split.test_classes))  # fmt: skip
    for index, name in enumerate(split.train_classes):
        mean = features.values[features.of_classes([name])].mean(axis=0)
        expected = np.linalg.norm(mean - test) - np.linalg.norm(mean - train)
        assert keys[index] == pytest.approx(expected, abs=1e-4)
    assert len(keys) == len(features.class_names)


def test_ladders_of_other_classes_do_not_compare(ladder: Ladder, features: Features) -> None:
    fewer = build_ladder(features.subset(features.class_names[2:]), rungs=2, swap_size=2)
    with pytest.raises(DataError, match="2 only in the first, 0 only in the second"):
        compare_ladders(ladder, fewer)


def test_the_start_is_that_of_the_walk_and_not_the_easiest_rung(
    ladder: Ladder, features: Features
) -> None:
    other = turned(features, 12)
    second = build_ladder(other, rungs=3, swap_size=2)
    assert ladder.rungs[0].id != second.rungs[0].id
    start = random_split(features.class_names)
    agreement = compare_ladders(ladder, second, (features, other))
    assert agreement.same_start is True
    own, others = ladder.rungs[-1], second.rungs[agreement.rungs[-1].other_rung]
    moved = [
        (set(start.train_classes) - set(rung.train_classes))
        | (set(start.test_classes) - set(rung.test_classes))
        for rung in (own, others)
    ]
    expected = len(moved[0] & moved[1]) / len(moved[0] | moved[1])
    assert agreement.rungs[-1].jaccard_moved == expected
    keys = published_keys(features, start), published_keys(other, start)
    assert agreement.key_correlation == spearmanr(*keys).statistic
    elsewhere = compare_ladders(ladder, build_ladder(features, rungs=3, swap_size=2, seed=1))
    assert elsewhere.same_start is False


def test_a_start_is_found_wherever_the_rungs_are(features: Features) -> None:
    grouped = replace(features, groups=tuple(f"group {i % 8}" for i in range(24)))
    for options in ({"rungs": 3}, {"steps": (1, 2)}, {"steps": (-1, 0)}):
        for by in ("class", "group"):
            built = build_ladder(grouped, by=by, swap_size=1, seed=3, **options)  # type: ignore[arg-type]
            drawn = drawn_split(Pool.of(grouped, by=by), by=by, train_fraction=0.5, seed=3)
            found = start_split(built)
            assert found is not None and found.id == drawn.id
    given = Split(features.class_names[:9], features.class_names[9:])
    built = build_ladder(features, start=given, rungs=2, swap_size=2)
    assert start_split(built) == given


def test_a_start_that_is_unknown_agrees_with_none(ladder: Ladder, features: Features) -> None:
    imported = replace(ladder, settings=replace(ladder.settings, start="imported"))
    agreement = compare_ladders(imported, ladder, (features, features))
    assert (agreement.same_start, agreement.key_correlation) == (None, None)
    assert [rung.jaccard_moved for rung in agreement.rungs] == [None] * 3
    grouped = replace(features, groups=tuple(f"group {i % 8}" for i in range(24)))
    built = build_ladder(grouped, by="group", rungs=3, swap_size=1, min_classes=4)
    removal = next(number for number, step in enumerate(built.trajectory) if step.removed)
    late = replace(built, rungs=built.rungs[-1:], rung_steps=built.rung_steps[-1:])
    assert late.rung_steps[0] >= removal and start_split(late) is None


def test_heights_are_on_the_scale_of_the_trajectory(ladder: Ladder) -> None:
    upper = replace(ladder, rungs=ladder.rungs[1:], rung_steps=ladder.rung_steps[1:])
    agreement = compare_ladders(upper, ladder)
    assert [rung.other_rung for rung in agreement.rungs] == [1, 2]
    fids = [step.fid for step in ladder.trajectory]
    for rung, own in zip(agreement.rungs, upper.rungs, strict=True):
        assert rung.height == rung.other_height
        assert rung.height == pytest.approx((own.fid - fids[0]) / (fids[-1] - fids[0]))
