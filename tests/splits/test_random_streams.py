"""The stream of random numbers behind every draw, by name: another one changes users' results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_features

from oodml.features.features import Features
from oodml.fid import null, sampling_bias
from oodml.fid.class_moments import ClassMoments
from oodml.fid.null import bootstrap_interval, class_null
from oodml.fid.sampling_bias import infinite_sample_distance
from oodml.fid.shift import measure_shift
from oodml.seeding import generator
from oodml.splits import episodes, equal_size, split
from oodml.splits.construction import search, start
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder

SEED = 7


Streams = list[tuple[int | str, ...]]


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    """What generators are made from, as a list that grows."""
    asked: Streams = []

    def listening(seed: int, *purpose: str | int) -> np.random.Generator:
        asked.append((seed, *purpose))
        return generator(seed, *purpose)

    for module in (sampling_bias, null, episodes, equal_size, search, split, start):
        monkeypatch.setattr(module, "generator", listening)
    return asked


def test_nulls_and_intervals(streams: Streams) -> None:
    features = make_features(classes=8, per_class=6, dimension=2)
    statistics, sides = ClassMoments.from_features(features), (range(3), range(3, 8))
    class_null(*sides, lambda train, test: float(train[0]), 2, SEED)
    assert sorted(streams) == [(SEED, "class null", 3, 0), (SEED, "class null", 3, 1)]
    streams.clear()
    bootstrap_interval(statistics, *sides, 1.0, 20, SEED)
    assert sorted(streams) == [(SEED, "class bootstrap", draw) for draw in range(20)]
    streams.clear()
    infinite_sample_distance(statistics, *sides, seed=SEED)
    infinite_sample_distance(statistics, *sides)
    assert streams == [(SEED, "infinite samples"), (0, "infinite samples")]


def test_a_report_hands_its_seed_on(streams: Streams) -> None:
    features = make_features(classes=8, per_class=6, dimension=2)
    halves = split.Split(features.class_names[:3], features.class_names[3:])
    measure_shift(features, halves, null=2, infinity=True, bootstrap=20, seed=SEED)
    assert {purpose[0] for purpose in streams} == {SEED}
    named = {"class null", "infinite samples", "class bootstrap"}
    assert {purpose[1] for purpose in streams} == named


def test_starts_and_searches(streams: Streams) -> None:
    features = make_features(classes=12, per_class=6, dimension=4)
    build_ladder(features, rungs=2, search="best", budget=40, seed=SEED, null=0)
    assert streams[0] == (SEED, "split")
    fresh = [purpose for purpose in streams if "fresh start" in purpose]
    kicks = [purpose for purpose in streams if "kick" in purpose]
    assert fresh == [(SEED, "fresh start", number) for number in range(len(fresh))]
    assert kicks == [(SEED, "kick", number) for number in range(len(kicks))]
    assert len(fresh) > 1 < len(kicks) and len(streams) == 1 + len(fresh) + len(kicks)
    streams.clear()
    grouped = replace(features, groups=tuple("aabbccddeeff"))
    build_ladder(grouped, rungs=2, by="group", seed=SEED, null=0)
    assert streams == [(SEED, "group split")]


def test_what_goes_with_a_rung(streams: Streams, ladder: Ladder, features: Features) -> None:
    rung = ladder.rungs[-1]
    episodes.validation_fold(rung, seed=SEED)
    episodes.class_folds(rung, 2, seed=SEED)
    assert streams == [
        (SEED, "validation", rung.id),
        (SEED, "folds", rung.id),
    ]
    streams.clear()
    episodes.few_shot_episodes(rung, features, shots=(2,), episodes=2, seed=SEED)
    assert streams == [
        (SEED, "episode", rung.id, number, name)
        for number in range(2)
        for name in rung.test_classes
    ]


def test_equal_galleries(streams: Streams, ladder: Ladder, features: Features) -> None:
    rung = ladder.rungs[-1]
    equal_size.gallery_of(features, rung, 4, 12, SEED)
    assert streams == [
        (SEED, "gallery classes", rung.id),
        (SEED, "samples", "gallery", rung.id),
    ]
