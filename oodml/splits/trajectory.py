"""The trajectory: all splits that a build walks through, from the easiest to the hardest."""

from __future__ import annotations

from oodml.splits.gain import Gains
from oodml.splits.procedure import published_easier, published_harder
from oodml.splits.search import hardest_split
from oodml.splits.settings import BuildSettings
from oodml.splits.sides import Sides
from oodml.splits.swap import EASIER, HARDER, by_gain, by_nearness
from oodml.splits.walk import (
    Accept,
    State,
    remove_until_fewest,
    swap_until_saturated,
    walk_to,
)


def trajectory(
    begin: Sides, settings: BuildSettings, report: Accept
) -> tuple[list[State], int, str]:
    """All states from the easiest to the hardest, the index of the start, and why it ended."""
    easy: list[State] = []
    hard: list[State] = [State.of("start", begin)]
    report(hard[0])
    accept_easy, accept_hard = _collect(easy, report), _collect(hard, report)
    if settings.procedure == "milbich2021":
        if settings.easier:
            published_easier(begin, settings.swap_size, accept_easy)
        stopped = published_harder(begin, settings.swap_size, settings.min_classes, accept_hard)
    else:
        end = _swaps(begin, settings, accept_easy, accept_hard)
        stopped = remove_until_fewest(end, settings.swap_size, settings.min_classes, accept_hard)
    return [*reversed(easy), *hard], len(easy), stopped


def _swaps(begin: Sides, settings: BuildSettings, easier: Accept, harder: Accept) -> Sides:
    size, gains = settings.swap_size, None
    if settings.search != "published":
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
    """By the published key, and on by gain from where that saturates.

    In this order because gain alone, a local rule, ends lower from a random start.
    """
    sides = swap_until_saturated(sides, size, by_nearness, sign, accept=accept)
    if gains is None:
        return sides
    return swap_until_saturated(sides, size, by_gain(gains), sign, accept=accept)


def _collect(states: list[State], report: Accept) -> Accept:
    def accept(state: State) -> None:
        states.append(state)
        report(state)

    return accept
