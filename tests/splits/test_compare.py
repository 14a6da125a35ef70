from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oodml.errors import DataError
from oodml.features.features import Features
from oodml.splits.build import build_ladder
from oodml.splits.compare import compare_ladders, published_keys
from oodml.splits.ladder import Ladder


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
