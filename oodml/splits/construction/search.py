"""The walk that a ladder is chosen from, and the search for the hardest split at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from oodml.seeding import generator
from oodml.splits.construction.milbich2021 import published_easier, published_harder
from oodml.splits.construction.state import Sides, State, Units, measured
from oodml.splits.construction.transport_gain import Gains, by_gain
from oodml.splits.construction.walk import (
    EASIER,
    HARDER,
    Accept,
    by_nearness,
    climbs,
    remove_until_fewest,
    swap_until_saturated,
    walk_to,
)
from oodml.splits.ladder import BuildSettings, Step

# Pairs of the units with the largest gains, of which the subspace bound picks those to verify.
SCREENED_UNITS, VERIFIED = 12, 3
# Part of a side that a kick exchanges at random: from a fifth at first down to a hundredth.
HOTTEST, COLDEST = 0.2, 0.01
# Part of the budget that goes to starts from other random halves.
FRESH_STARTS = 0.5

OnStep = Callable[[Step], None]


def trajectory(
    begin: Sides, settings: BuildSettings, on_step: OnStep | None = None
) -> tuple[list[State], int, str]:
    """The states of a walk from the easiest to the hardest, the index of the start, why it ended.

    `on_step` is called with every accepted split, in the order in which the walk reaches them.
    """
    easy: list[State] = []
    hard: list[State] = []

    def record(states: list[State]) -> Accept:
        def accept(state: State) -> None:
            states.append(state)
            if on_step is not None:
                on_step(Step(state.kind, state.fid))

        return accept

    record(hard)(State.of("start", begin))
    size, fewest = settings.swap_size, settings.min_classes
    if settings.search == "milbich2021":
        if settings.easier:
            published_easier(begin, size, record(easy))
        stopped = published_harder(begin, size, fewest, record(hard))
    else:
        end = _swaps(begin, settings, record(easy), record(hard))
        stopped = remove_until_fewest(end, size, fewest, record(hard))
    return [*reversed(easy), *hard], len(easy), stopped


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
    """The split at which no screened pair raises FID when exchanged, or `tickets` are used up."""
    while True:
        for candidate in measured(sides.exchange(*pair) for pair in _promising(sides, gains)):
            if next(tickets, None) is None:
                return sides
            if climbs(sides, candidate, HARDER):
                sides = candidate
                break
        else:
            return sides


def _swaps(begin: Sides, settings: BuildSettings, easier: Accept, harder: Accept) -> Sides:
    size, gains = settings.swap_size, None
    if settings.search != "means":
        fewest = min(int(begin.pool.sizes[side].sum()) for side in (begin.train, begin.test))
        gains = Gains.of(begin.pool, fewest)
    if settings.easier:
        _climb(begin, size, gains, EASIER, easier)
    if gains is None or settings.search != "best":
        return _climb(begin, size, gains, HARDER, harder)
    climbed: list[State] = []
    end = _climb(begin, size, gains, HARDER, climbed.append)
    hardest = hardest_split(end, size, gains, seed=settings.seed, budget=settings.budget)
    if hardest is not end:
        climbed = []
        end = walk_to(begin, hardest, size, by_nearness, climbed.append)
    for state in climbed:
        harder(state)
    return end


def _climb(sides: Sides, size: int, gains: Gains | None, sign: int, accept: Accept) -> Sides:
    # Gain alone ends lower from a random start, where its first order vanishes.
    sides = swap_until_saturated(sides, size, by_nearness, sign, accept=accept)
    if gains is None:
        return sides
    return swap_until_saturated(sides, size, by_gain(gains), sign, accept=accept)


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
