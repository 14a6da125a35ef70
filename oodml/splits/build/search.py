"""The search for the hardest split: past where the published key ends, within a stated budget."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from oodml.seeding import generator
from oodml.splits.build.state import Sides, Units, measured
from oodml.splits.build.transport_gain import Gains, by_gain
from oodml.splits.build.walk import HARDER, by_nearness, climbs, swap_until_saturated

# Pairs of the units with the largest gains, of which the subspace bound picks those to verify.
SCREENED_UNITS, VERIFIED = 12, 3
# Part of a side that a kick exchanges at random: from a fifth at first down to a hundredth.
HOTTEST, COLDEST = 0.2, 0.01
# Part of the budget that goes to starts from other random halves.
FRESH_STARTS = 0.5


def hardest_split(climbed: Sides, size: int, gains: Gains, *, seed: int, budget: int) -> Sides:
    """The hardest split that `budget` exact distances find, at least as hard as `climbed`.

    Half of them go to climbs from other random halves, by the published key and then by gain; the
    rest to annealing around the best: exchange a random part of both sides, less and less of it,
    climb by gain, keep what is harder. All end in a pairwise local search. Distances are counted,
    never seconds, so equal settings find the same split on every machine; for each counted
    distance at most 144 pairs are screened by their bound in the principal subspace.
    """
    fresh = iter(range(round(FRESH_STARTS * budget)))
    tickets = iter(range(budget - round(FRESH_STARTS * budget)))
    best = refine_pairs(climbed, gains, tickets)
    for number, _ in enumerate(fresh):
        begin = _other_half(best, generator(seed, "fresh start", number))
        reached = swap_until_saturated(begin, size, by_nearness, tickets=fresh)
        reached = swap_until_saturated(reached, size, by_gain(gains), tickets=fresh)
        best = reached if climbs(best, reached, HARDER) else best
    for number, spent in enumerate(tickets):
        part = HOTTEST * (COLDEST / HOTTEST) ** (spent / budget)
        begin, kick = _kicked(best, part, generator(seed, "kick", number))
        reached = swap_until_saturated(begin, kick, by_gain(gains), tickets=tickets)
        reached = refine_pairs(reached, gains, tickets)
        best = reached if climbs(best, reached, HARDER) else best
    return best


def refine_pairs(sides: Sides, gains: Gains, tickets: Iterator[int]) -> Sides:
    """Where no exchange of one screened pair of units raises FID any more."""
    while True:
        for candidate in measured(sides.exchange(*pair) for pair in _promising(sides, gains)):
            if next(tickets, None) is None:
                return sides
            if climbs(sides, candidate, HARDER):
                sides = candidate
                break
        else:
            return sides


def _promising(sides: Sides, gains: Gains) -> list[tuple[Units, Units]]:
    """The pairs with the highest lower bounds among those of the units with the largest gains."""
    leaving, coming = (ranked[:SCREENED_UNITS] for ranked in by_gain(gains)(sides, HARDER))
    inside, subspace = gains.inside, gains.subspace
    first, second = inside.of(sides.train), inside.of(sides.test)
    bounds = []
    for leave in leaving:
        for come in coming:
            out, back = inside.of([leave]), inside.of([come])
            bound = subspace.interval(
                np.append(sides.train[sides.train != leave], come),
                np.append(sides.test[sides.test != come], leave),
                train_moments=first - out + back,
                test_moments=second - back + out,
            )
            bounds.append((-bound.lower, int(leave), int(come)))
    best = sorted(bounds)[:VERIFIED]
    return [(np.array([leave]), np.array([come])) for _, leave, come in best]


def _other_half(sides: Sides, random: np.random.Generator) -> Sides:
    units = random.permutation(np.union1d(sides.train, sides.test))
    return Sides.of(sides.pool, units[: len(sides.train)], units[len(sides.train) :])


def _kicked(sides: Sides, part: float, random: np.random.Generator) -> tuple[Sides, int]:
    fewest = min(len(sides.train), len(sides.test))
    kick = min(max(1, round(part * fewest)), fewest)
    leave, come = (random.choice(side, kick, replace=False) for side in (sides.train, sides.test))
    return sides.exchange(leave, come), kick
