"""Which splits become rungs, against all possible choices."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from oodml.errors import UsageError
from oodml.splits.construction.rungs import (
    choose_evenly,
    choose_nearest,
    choose_rungs,
    choose_steps,
)
from oodml.splits.ladder import BuildSettings


def test_rungs_are_the_best_choice_for_even_spacing() -> None:
    fids = [1.0, 1.1, 1.2, 4.0, 5.5, 6.0, 9.0, 10.0]
    chosen = choose_evenly(fids, 4)
    targets = np.linspace(1, 10, 4)

    def cost(indices: tuple[int, ...]) -> float:
        return float(sum(abs(fids[i] - t) for i, t in zip(indices, targets, strict=True)))

    best = min(((0, *middle, 7) for middle in combinations(range(1, 7), 2)), key=cost)
    assert tuple(chosen) == best
    assert choose_evenly(fids, 8) == list(range(8))


def test_rungs_lie_nearest_to_given_fids() -> None:
    fids = [1.0, 1.1, 1.2, 4.0, 5.5, 6.0, 9.0, 10.0]
    targets = (1.15, 1.16, 6.1)

    def cost(chosen: tuple[int, ...]) -> float:
        return float(sum(abs(fids[i] - t) for i, t in zip(chosen, targets, strict=True)))

    assert tuple(choose_nearest(fids, targets)) == min(combinations(range(8), 3), key=cost)
    with pytest.raises(UsageError, match=r"out of reach: 0\.5, 11; .* 1 to 10"):
        choose_nearest(fids, (0.5, 2, 11))
    with pytest.raises(UsageError, match="only 2"):
        choose_nearest(fids[:2], (1, 1.05, 1.1))


def test_rungs_stand_at_given_steps_from_the_start() -> None:
    fids = [1.0, 2.0, 3.0, 4.0]
    assert choose_steps(fids, 1, (2, 0, -1)) == [0, 1, 3]
    with pytest.raises(UsageError, match=r"out of reach: -2, 3; .* -1 to 2"):
        choose_steps(fids, 1, (-2, 0, 3))


def test_every_split_of_a_trajectory_may_become_a_rung() -> None:
    fids = [1.0, 2.0, 4.0, 8.0]
    assert choose_nearest(fids, fids) == choose_evenly(fids, 4) == [0, 1, 2, 3]


def test_rungs_are_chosen_by_what_the_settings_name() -> None:
    settings = BuildSettings(2, 0, "sample", 0.5, swap_size=1, min_classes=2)
    fids = [1.0, 2.0, 4.0, 8.0]
    assert choose_rungs(fids, 1, settings) == [0, 3]
    assert choose_rungs(fids, 1, replace(settings, fids=(2.5, 3.5))) == [1, 2]
    assert choose_rungs(fids, 1, replace(settings, steps=(-1, 1))) == [0, 2]
