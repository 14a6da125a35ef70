"""Reference runs on features of which the cost of the shift is known in closed form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SOURCE

from oodml.eval.statistics.transfer import TransferRow, transfer
from oodml.features.features import Features
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.split import Split
from oodml.train.build import Resources
from oodml.train.plan import plan
from oodml.train.run import train_run

CLASSES, IMAGES = 10, 8  # of a side, of a class
NAMES = tuple(f"class {number:02}" for number in range(2 * CLASSES))


def pool_of(sides: list[np.ndarray[Any, Any]]) -> Features:
    """Features of two sides (classes, images, dimensions), one class after the other."""
    values = np.concatenate(sides).reshape(-1, sides[0].shape[-1]).astype(np.float32)
    labels = np.repeat(np.arange(2 * CLASSES), IMAGES)
    return Features(values, labels, NAMES, SOURCE)


def measured(
    pool: Features, tmp_path: Path, method: str, trained: int = 0, seeds: int = 2, **settings: Any
) -> TransferRow:
    """What the shift costs when one side is trained on and the other one tested."""
    sides = NAMES[:CLASSES], NAMES[CLASSES:]
    ladder = build_ladder(pool, rungs=2, null=0)
    split = Split(sides[trained], sides[1 - trained], ladder.rungs[0].shift)
    ladder = replace(ladder, rungs=(split, *ladder.rungs[1:]))
    specs = plan(ladder, [method], range(seeds), rungs=[0], reference=True, **settings)
    resources = Resources(pool)
    records = [
        train_run(spec, split, resources, tmp_path / spec.id) for spec in specs if spec.is_reference
    ]
    (found,) = transfer(records, ladder)
    assert len(found.seeds) == seeds and found.left_out == 0
    return found.rows[0]


@pytest.mark.parametrize("method", ["margin", "multi_similarity"])
def test_training_gains_nothing_where_isotropic_noise_lies_around_orthogonal_class_means(
    method: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    means = np.eye(2 * CLASSES).reshape(2, CLASSES, 1, -1)
    noise = 0.02 * random.standard_normal((2, CLASSES, IMAGES, 2 * CLASSES))
    row = measured(
        pool_of(list(means + noise)), tmp_path, method, steps=20, batch_size=24, embedding_dim=16
    )
    for name in ("gain", "matched_gain", "shift_cost"):
        estimate = getattr(row, name)
        assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)
    assert row.frozen and row.frozen.value == 1 and row.retained_gain is None


def clean() -> np.ndarray[Any, Any]:
    """Class j at an angle of its own in the first plane, all of its images in one place."""
    values = np.zeros((CLASSES, IMAGES, 4))
    angles = 2 * np.pi * np.arange(CLASSES) / CLASSES
    values[..., 0], values[..., 1] = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return values


def noisy() -> np.ndarray[Any, Any]:
    """The same in the second plane, and every second image far out along the first dimension."""
    values = np.roll(clean(), 2, axis=-1)
    values[:, ::2, 0], values[:, 1::2, 0] = 3, -3
    return values


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_is_a_nuisance_on_the_training_side_only_costs_what_it_tells_apart(
    mirrored: bool, tmp_path: Path
) -> None:
    sides = [noisy(), clean()]
    pool = pool_of(sides[::-1] if mirrored else sides)
    # The noisy side teaches LDA to leave the first plane out, in which the classes of the clean
    # side differ, so that all images of a half coincide there; chance finds one of the own class.
    half = CLASSES // 2
    chance = (IMAGES - 1) / (half * IMAGES - 1)
    row = measured(pool, tmp_path / "a", "lda", trained=int(mirrored))
    assert row.matched and row.shifted and row.shift_cost and row.gain
    assert (row.matched.value, row.shifted.value) == (1, pytest.approx(chance))
    assert (row.shift_cost.value, row.gain.value) == pytest.approx((1 - chance, chance - 1))
    # The other way round the images of a half lie in two places, those of its two nuisances.
    chance = (IMAGES / 2 - 1) / (half * IMAGES / 2 - 1)
    swapped = measured(pool, tmp_path / "b", "lda", trained=int(not mirrored))
    assert swapped.shift_cost and swapped.shift_cost.value == pytest.approx(1 - chance)
    assert swapped.matched and swapped.matched.value == 1
