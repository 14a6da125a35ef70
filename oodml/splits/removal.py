"""One removal: the classes of each side that lie nearest to the other side leave the split."""

from __future__ import annotations

import numpy as np

from oodml.splits.sides import Classes, Sides


def removal_step(sides: Sides, size: int) -> tuple[Sides, Classes]:
    """The sides without `size` classes of each side, and the classes that left.

    The same key as in a swap singles them out (arXiv:2107.09562): fewer classes remain, but
    those lie farther apart.
    """
    train_ranked, test_ranked = sides.nearest_to_other()
    from_train, from_test = train_ranked[:size], test_ranked[:size]
    removed: Classes = np.union1d(from_train, from_test)
    return sides.without(from_train, from_test), removed
