"""The walk: steps that move FID strictly one way, halved where one does not, until saturation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from oodml.fid.matrix_root import Matrix
from oodml.splits.construction.state import Sides, State, Units, measured

# Units of both sides in the order in which they should move; the second argument is +1 for a
# harder split and -1 for an easier one.
Ranking = Callable[[Sides, int], tuple[Units, Units]]
Accept = Callable[[State], None]
HARDER, EASIER = 1, -1
# A step counts when it moves FID by more than what accumulated rounding can.
LEAST_CHANGE = 1e-9


def forget(state: State) -> None:
    """An `Accept` that records nothing."""


def swap_until_saturated(
    sides: Sides,
    size: int,
    ranking: Ranking,
    sign: int = HARDER,
    *,
    accept: Accept = forget,
    tickets: Iterator[int] | None = None,
) -> Sides:
    """The split at which swaps no longer raise FID (or, with `sign` -1, no longer lower it).

    Swaps begin at `size` units a side, which is halved whenever one does not help. Every accepted
    split is passed to `accept`. Each exact distance takes one of the `tickets`; the walk ends when
    they are used up.
    """
    kind = "swap" if sign == HARDER else "easier"
    tickets = itertools.count() if tickets is None else tickets
    size = min(size, len(sides.train), len(sides.test))
    while size:
        for candidate in measured(_swaps(sides, size, ranking, sign)):
            if next(tickets, None) is None:
                return sides
            if not climbs(sides, candidate, sign):
                break
            sides = candidate
            accept(State.of(kind, sides))
        size //= 2
    return sides


def remove_until_fewest(sides: Sides, size: int, min_classes: int, accept: Accept) -> str:
    """Remove units as long as that raises FID; returns the reason why it ended."""
    while size:
        for candidate in measured(_removals(sides, size, min_classes)):
            if not climbs(sides, candidate, HARDER):
                size = (len(sides.train) - len(candidate.train)) // 2
                break
            sides = candidate
            accept(State.of("removal", sides))
        else:
            return f"min classes {min_classes} reached"
    return "saturated"


def walk_to(start: Sides, target: Sides, size: int, ranking: Ranking, accept: Accept) -> Sides:
    """From `start` to `target` by exchanging only what differs, at most `size` units a step.

    Only splits above all before are passed to `accept`. Returns the last of them, or `start`. The
    two must hold as many units a side; where both sides of `target` are equally long, its mirror
    image, which has the same FID, is taken if that is nearer.
    """
    train = target.train
    if len(target.train) == len(target.test):
        near = len(np.intersect1d(start.train, target.train))
        train = target.train if 2 * near >= len(target.train) else target.test
    best = start
    for sides in measured(_towards(start, train, size, ranking)):
        if climbs(best, sides, HARDER):
            best = sides
            accept(State.of("swap", sides))
    return best


def moves(before: float, after: float, sign: int) -> bool:
    """Whether FID changes in the direction of `sign` by more than rounding."""
    return sign * (after - before) > LEAST_CHANGE * before


def climbs(before: Sides, after: Sides, sign: int) -> bool:
    """Whether the exact FID changes in the direction of `sign`.

    The quick distances decide where they differ by more than their bounds, else the exact ones.
    """
    if abs(after.fid - before.fid) > before.terms.bound + after.terms.bound:
        return moves(before.fid, after.fid, sign)
    return moves(before.exact_terms.value, after.exact_terms.value, sign)


def by_nearness(sides: Sides, sign: int = HARDER) -> tuple[Units, Units]:
    """Train and test units in the published order (arXiv:2107.09562), ties by index.

    Those nearest to the other side first for a harder split; for an easier one the opposite.
    """
    train, test = sides.nearness
    return in_order(sides.train, sign * train), in_order(sides.test, sign * test)


def in_order(units: Units, key: Matrix) -> Units:
    """`units` by rising `key`, ties in their own order."""
    ordered: Units = units[np.argsort(key, kind="stable")]
    return ordered


def most_removable(sides: Sides, size: int, min_classes: int) -> int:
    """How many of `size` units a removal may take from each side and leave `min_classes` there."""
    train_ranked, test_ranked = by_nearness(sides)
    spare = size
    for ranked in (train_ranked, test_ranked):
        left = np.cumsum(sides.pool.classes[ranked[::-1]])[::-1]
        # left[k] classes stay when k units go.
        spare = min(spare, int(np.count_nonzero(left[1:] >= min_classes)))
    return spare


def _swaps(sides: Sides, size: int, ranking: Ranking, sign: int) -> Iterator[Sides]:
    """The splits after one, two, ... swaps of the `size` units that come first on each side."""
    while True:
        train_ranked, test_ranked = ranking(sides, sign)
        sides = sides.exchange(train_ranked[:size], test_ranked[:size])
        yield sides


def _removals(sides: Sides, size: int, min_classes: int) -> Iterator[Sides]:
    """The splits after one, two, ... removals, by the same key as swaps (arXiv:2107.09562)."""
    while allowed := most_removable(sides, size, min_classes):
        train_ranked, test_ranked = by_nearness(sides)
        sides = sides.without(train_ranked[:allowed], test_ranked[:allowed])
        yield sides


def _towards(sides: Sides, train: Units, size: int, ranking: Ranking) -> Iterator[Sides]:
    """The splits on the way to the one with these train units."""
    while len(np.setdiff1d(sides.train, train)):
        train_ranked, test_ranked = ranking(sides, HARDER)
        leave = train_ranked[~np.isin(train_ranked, train)][:size]
        come = test_ranked[np.isin(test_ranked, train)][:size]
        sides = sides.exchange(leave, come)
        yield sides
