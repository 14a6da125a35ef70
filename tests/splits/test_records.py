"""What a ladder keeps of how it was made, and the order that gains put units in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from conftest import make_features

from oodml.features.features import Features
from oodml.splits.build.construction import build_ladder
from oodml.splits.build.rungs import choose_rungs
from oodml.splits.build.state import Pool, Sides
from oodml.splits.build.transport_gain import Gains, by_gain
from oodml.splits.build.walk import EASIER, HARDER
from oodml.splits.ladder import BuildSettings


def test_a_ladder_names_its_source_and_counts_its_images(features: Features) -> None:
    built = build_ladder(features, rungs=2, swap_size=2, source="photos/pool")
    assert built.source == "photos/pool"
    assert built.class_sizes == dict.fromkeys(features.class_names, 8)
    assert build_ladder(features, rungs=2, swap_size=2).source == ""


def test_the_units_that_gain_most_move_first() -> None:
    pool = Pool.of(make_features(classes=14, per_class=10, dimension=4))
    sides = Sides.of(pool, np.arange(0, 14, 2), np.arange(1, 14, 2))
    gains = Gains.of(pool, 70)
    for own, gain, harder, easier in zip(
        (sides.train, sides.test),
        gains.of_sides(sides.train, sides.test),
        by_gain(gains)(sides, HARDER),
        by_gain(gains)(sides, EASIER),
        strict=True,
    ):
        assert len(set(gain)) == 7
        assert harder.tolist() == own[np.argsort(-gain)].tolist()
        assert easier.tolist() == harder[::-1].tolist()


def test_rungs_are_chosen_by_what_the_settings_name() -> None:
    settings = BuildSettings(2, 0, "sample", 0.5, swap_size=1, min_classes=2)
    fids = [1.0, 2.0, 4.0, 8.0]
    assert choose_rungs(fids, 1, settings) == [0, 3]
    assert choose_rungs(fids, 1, replace(settings, fids=(2.5, 3.5))) == [1, 2]
    assert choose_rungs(fids, 1, replace(settings, steps=(-1, 1))) == [0, 2]
