"""One swap: the units that the published key or the gain singles out change sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from oodml.fid.arrays import Matrix
from oodml.splits.gain import Gains
from oodml.splits.pool import Units
from oodml.splits.sides import Sides

# Units of both sides in the order in which they should move; the second argument is +1 for a
# harder split and -1 for an easier one.
Ranking = Callable[[Sides, int], tuple[Units, Units]]
HARDER, EASIER = 1, -1


def by_nearness(sides: Sides, sign: int = HARDER) -> tuple[Units, Units]:
    """Train and test units in the published order (arXiv:2107.09562), ties by index.

    Those nearest to the other side first for a harder split; for an easier one the opposite.
    """
    train, test = sides.nearness
    return _ordered(sides.train, sign * train), _ordered(sides.test, sign * test)


def by_gain(gains: Gains) -> Ranking:
    """The order of the largest first-order change of FID, which sees covariances too."""

    def ranking(sides: Sides, sign: int = HARDER) -> tuple[Units, Units]:
        train, test = gains.of_sides(sides.train, sides.test)
        return _ordered(sides.train, -sign * train), _ordered(sides.test, -sign * test)

    return ranking


def swap_step(
    sides: Sides, size: int, ranking: Ranking = by_nearness, sign: int = HARDER
) -> tuple[Sides, Units, Units]:
    """The sides after `size` units of each side changed places, and the units that moved.

    Returns (sides, units that went to test, units that went to train), ranked once for the whole
    step.
    """
    train_ranked, test_ranked = ranking(sides, sign)
    to_test, to_train = train_ranked[:size], test_ranked[:size]
    return sides.exchange(to_test, to_train), to_test, to_train


def _ordered(units: Units, key: Matrix) -> Units:
    ordered: Units = units[np.argsort(key, kind="stable")]
    return ordered
