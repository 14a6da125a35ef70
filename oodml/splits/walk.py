"""The walk: steps that move FID strictly one way, halved where one does not, until saturation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from oodml.fid.frechet import FrechetTerms
from oodml.splits.ahead import Ahead
from oodml.splits.pool import Units
from oodml.splits.removal import most_removable, removal_step
from oodml.splits.sides import Sides
from oodml.splits.swap import HARDER, Ranking, swap_step

# A step counts when it moves FID by more than what accumulated rounding can.
LEAST_CHANGE = 1e-9


@dataclass(frozen=True, eq=False)
class State:
    """A split on the trajectory: its units and exact terms, without the moments behind them."""

    kind: str
    train: Units
    test: Units
    terms: FrechetTerms

    @classmethod
    def of(cls, kind: str, sides: Sides) -> State:
        """The lasting part of `sides`."""
        return cls(kind, sides.train, sides.test, sides.terms)

    @property
    def fid(self) -> float:
        """The exact Frechet distance, in squared feature units."""
        return self.terms.value


Accept = Callable[[State], None]


def forget(state: State) -> None:
    """An `Accept` for walks whose way does not matter."""


def moves(before: float, after: float, sign: int) -> bool:
    """Whether a step from one FID to another goes the way of `sign`, beyond rounding."""
    return sign * (after - before) > LEAST_CHANGE * before


def climbs(before: Sides, after: Sides, sign: int) -> bool:
    """Whether a step moves the exact FID the way of `sign`.

    The quick distances decide where they differ by more than their bounds, else the exact ones.
    """
    if abs(after.fid - before.fid) > before.terms.bound + after.terms.bound:
        return moves(before.fid, after.fid, sign)
    return moves(before.exact_terms.value, after.exact_terms.value, sign)


def swap_until_saturated(
    sides: Sides,
    size: int,
    ranking: Ranking,
    sign: int = HARDER,
    *,
    accept: Accept = forget,
    tickets: Iterator[int] | None = None,
) -> Sides:
    """Where swaps of `size` units, halved where one does not help, no longer raise FID.

    `sign` -1 lowers it. Every accepted split is passed to `accept`. Each exact distance takes one
    of the `tickets`; the walk ends when they are used up.
    """
    kind = "swap" if sign == HARDER else "easier"
    tickets = itertools.count() if tickets is None else tickets
    size = min(size, len(sides.train), len(sides.test))
    ahead = Ahead(lambda sides, size: swap_step(sides, size, ranking, sign)[0])
    while size and next(tickets, None) is not None:
        candidate = ahead.candidate(sides, size)
        if candidate is not None and climbs(sides, candidate, sign):
            sides = candidate
            accept(State.of(kind, sides))
        else:
            size //= 2
    ahead.drop()
    return sides


def remove_until_fewest(sides: Sides, size: int, min_classes: int, accept: Accept) -> str:
    """Remove units while that raises FID; the reason why it ended."""

    def propose(sides: Sides, size: int) -> Sides | None:
        allowed = most_removable(sides, size, min_classes)
        return removal_step(sides, allowed)[0] if allowed else None

    ahead = Ahead(propose)
    while size:
        candidate = ahead.candidate(sides, size)
        if candidate is None:
            return f"min classes {min_classes} reached"
        if climbs(sides, candidate, HARDER):
            sides = candidate
            accept(State.of("removal", sides))
        else:
            size = (len(sides.train) - len(candidate.train)) // 2
    ahead.drop()
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
    sides = best = start
    while len(np.setdiff1d(sides.train, train)):
        train_ranked, test_ranked = ranking(sides, HARDER)
        leave = train_ranked[~np.isin(train_ranked, train)][:size]
        come = test_ranked[np.isin(test_ranked, train)][:size]
        sides = sides.exchange(leave, come)
        if climbs(best, sides, HARDER):
            best = sides
            accept(State.of("swap", sides))
    return best
