from __future__ import annotations

import numpy as np
import pytest

from oodml.errors import DataError
from oodml.train.batches import BalancedBatches

LABELS = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])


def test_batches_are_balanced_and_without_duplicates_while_a_class_has_enough() -> None:
    batches = list(BalancedBatches(LABELS, 20, 4, seed=0).epoch(0))
    assert len(batches) == len(LABELS) // 20
    for index in batches:
        classes, counts = np.unique(LABELS[index], return_counts=True)
        assert len(classes) == 5 and set(counts) == {4}
        for label in classes:
            distinct = len(set(index[LABELS[index] == label]))
            assert distinct == 4 or (label < 3 and distinct <= label + 1)


def test_batches_follow_from_seed_and_epoch_only() -> None:
    def draw(seed: int, epoch: int) -> list[int]:
        return [*np.concatenate(list(BalancedBatches(LABELS, 20, 2, seed=seed).epoch(epoch)))]

    first = draw(0, 1)
    np.random.seed(0)  # noqa: NPY002
    assert draw(0, 1) == first
    assert draw(0, 2) != first and draw(1, 1) != first


def test_a_batch_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="a batch of 4 with 4"):
        BalancedBatches(LABELS, 4, 4, seed=0)
    with pytest.raises(DataError, match="1 training classes"):
        BalancedBatches(np.zeros(9, dtype=np.int64), 8, 2, seed=0)


def test_a_small_pool_gives_small_batches() -> None:
    (index,) = BalancedBatches(np.array([0, 0, 1, 1]), 112, 4, seed=0).epoch(0)
    assert len(index) == 8
