"""Batches of a support: balanced, without repeats, from every episode's own seed."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_spec

from oodml.errors import DataError
from oodml.train.few_shot.support import Shape, Task, batch_shape, batches_of

SPEC = make_spec(batch_size=12)


def task(labels: list[int], seed: int = 0) -> Task:
    rows = np.arange(len(labels))
    return Task(2, 0, seed, rows, rows[:0], np.array(labels))


def test_a_batch_takes_no_class_and_no_sample_twice() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(7), 5)).tolist()
    batches = batches_of(task(labels), Shape(4, 3), 200)
    assert batches.shape == (200, 12)
    for batch in batches:
        classes = np.array(labels)[batch].reshape(4, 3)
        assert (classes == classes[:, :1]).all() and len(set(classes[:, 0])) == 4
        assert len(set(batch)) == 12
    assert len(np.unique(batches)) == 35
    assert np.ptp(np.bincount(batches.ravel())) < 60


def test_two_shots_pair_both_images_always() -> None:
    batches = batches_of(task([0, 1, 2, 0, 1, 2]), Shape(2, 2), 50).reshape(50, 2, 2)
    assert (np.abs(batches[:, :, 0] - batches[:, :, 1]) == 3).all()


def test_classes_of_unequal_size_give_their_own_samples_only() -> None:
    labels = [0, 0, 1, 1, 1, 1, 2, 2, 2]
    batches = batches_of(task(labels), Shape(3, 2), 100)
    for batch in batches:
        assert len(set(batch)) == 6 and sorted(np.array(labels)[batch]) == [0, 0, 1, 1, 2, 2]
    assert set(batches.ravel()) == set(range(9))


def test_batches_follow_from_the_seed() -> None:
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    one, same, other = (batches_of(task(labels, seed), Shape(2, 2), 20) for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("labels", "samples_per_class", "shape"),
    [
        ([0, 0, 1, 1], 4, (2, 2)),
        (list(range(9)) * 5, 4, (3, 4)),
        (list(range(9)) * 5, 1, (6, 2)),
        (list(range(2)) * 5, 4, (2, 4)),
        ([0, 0, 0, 1, 1], 4, (2, 2)),
    ],
)
def test_a_batch_is_the_runs_as_far_as_the_support_fills_it(
    labels: list[int], samples_per_class: int, shape: tuple[int, int]
) -> None:
    spec = SPEC.with_settings(samples_per_class=samples_per_class)
    assert batch_shape(task(labels), spec) == shape


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0], [0, 0, 1]])
def test_a_support_without_pairs_is_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match="pairs"):
        batch_shape(task(labels), SPEC)
