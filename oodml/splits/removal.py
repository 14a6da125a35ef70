"""One removal: the units of each side that lie nearest to the other side leave the split."""

from __future__ import annotations

import numpy as np

from oodml.splits.pool import Units
from oodml.splits.sides import Sides
from oodml.splits.swap import by_nearness


def removal_step(sides: Sides, size: int) -> tuple[Sides, Units]:
    """The sides without `size` units of each side, and the units that left.

    The same key as in a swap singles them out (arXiv:2107.09562): fewer units remain, but those
    lie farther apart.
    """
    train_ranked, test_ranked = by_nearness(sides)
    from_train, from_test = train_ranked[:size], test_ranked[:size]
    removed: Units = np.union1d(from_train, from_test)
    return sides.without(from_train, from_test), removed


def most_removable(sides: Sides, size: int, min_classes: int) -> int:
    """How many of `size` units a removal may take from each side and leave `min_classes` there."""
    train_ranked, test_ranked = by_nearness(sides)
    spare = size
    for ranked in (train_ranked, test_ranked):
        left = np.cumsum(sides.pool.classes[ranked[::-1]])[::-1]
        # left[k] classes stay when k units go.
        spare = min(spare, int(np.count_nonzero(left[1:] >= min_classes)))
    return spare
