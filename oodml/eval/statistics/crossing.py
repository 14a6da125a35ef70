"""Where the curves of two methods cross, as far as the runs can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scipy.special import stdtrit

from oodml.eval.statistics.curves import Pair, pairs_of
from oodml.eval.statistics.intervals import Array
from oodml.eval.statistics.scores import SummaryRow

LEVEL = 0.05


@dataclass(frozen=True)
class Crossing:
    """`before` is above `after` at FID `low`, below it at FID `high`, and both are separated there.

    `fid` is where straight lines between the rungs' means cross. Only that the curves cross
    somewhere between `low` and `high` is held by the intervals.
    """

    before: str
    after: str
    fid: float
    low: float
    high: float


def crossings(rows: Sequence[SummaryRow]) -> list[Crossing]:
    """The crossings of every two methods that their intervals allow to be stated.

    On each rung the paired difference over seeds has a t-interval at confidence 1 - 0.05 / rungs
    (Bonferroni). A crossing is stated between two rungs on which that interval excludes zero on
    opposite sides, with none so in between. Needs two seeds.
    """
    return [crossing for pair in pairs_of(rows) for crossing in _of_pair(pair)]


def _of_pair(pair: Pair) -> list[Crossing]:
    signs = separated_signs(pair.differences)
    told = [number for number, sign in enumerate(signs) if sign]
    found = []
    for left, right in pairwise(told):
        if signs[left] == -signs[right]:
            names = (pair.first, pair.second)
            before, after = names if signs[left] > 0 else names[::-1]
            fid = _zero(pair.fids[left : right + 1], pair.differences.mean(0)[left : right + 1])
            found.append(
                Crossing(before, after, fid, float(pair.fids[left]), float(pair.fids[right]))
            )
    return found


def separated_signs(differences: Array) -> list[int]:
    """Per column of (seeds, rungs): 1 or -1 where the interval excludes zero, else 0."""
    seeds, rungs = differences.shape
    if seeds < 2:
        return [0] * rungs
    quantile = float(stdtrit(seeds - 1, 1 - LEVEL / rungs / 2))
    means = differences.mean(0)
    reaches = quantile * differences.std(0, ddof=1) / math.sqrt(seeds)
    return [
        0 if abs(mean) <= reach else (1 if mean > 0 else -1)
        for mean, reach in zip(means.tolist(), reaches.tolist(), strict=True)
    ]


def _zero(fids: Array, means: Array) -> float:
    """The middle one of the places where the broken line through the means passes zero."""
    places = []
    for number in range(len(fids) - 1):
        one, other = float(means[number]), float(means[number + 1])
        if (one > 0) != (other > 0):
            share = one / (one - other)
            places.append(float(fids[number] + share * (fids[number + 1] - fids[number])))
    return places[len(places) // 2]
