"""Whether the order of the methods holds along the ladder: ranks and Kendall's tau."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy.stats import kendalltau, rankdata

from oodml.eval.statistics.curves import rung_fids
from oodml.eval.statistics.scores import MethodScore, SummaryRow


@dataclass(frozen=True)
class RankAgreement:
    """How alike two rungs order the `methods` that both have.

    `tau` is Kendall's tau-b, 1 for the same order, -1 for the opposite, None where all are equal;
    `p` tests it against no association. With fewer than three methods there is nothing to say.
    """

    rung: int
    other: int
    methods: int
    tau: float | None
    p: float | None


def ranks(rows: Sequence[SummaryRow]) -> dict[int, dict[str, float]]:
    """The rank of each method's mean on each rung: 1 is the highest, equal means share theirs."""
    found = {}
    for rung in rung_fids(rows):
        own = [row for row in rows if row.rung == rung]
        places = rankdata([-row.mean for row in own])
        found[rung] = {row.method: float(place) for row, place in zip(own, places, strict=True)}
    return found


def score_ranks(scores: Sequence[MethodScore]) -> dict[str, float]:
    """The rank of each method's aggregated score, among those that have one."""
    known = {score.method: score.mean for score in scores if score.mean is not None}
    places = rankdata([-mean for mean in known.values()])
    return {method: float(place) for method, place in zip(known, places, strict=True)}


def rank_agreement(rows: Sequence[SummaryRow]) -> list[RankAgreement]:
    """Kendall's tau between every two rungs, easier first."""
    return [_agreement(rows, rung, other) for rung, other in combinations(rung_fids(rows), 2)]


def _agreement(rows: Sequence[SummaryRow], rung: int, other: int) -> RankAgreement:
    ours, theirs = (
        {row.method: row.mean for row in rows if row.rung == number} for number in (rung, other)
    )
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) < 3:
        return RankAgreement(rung, other, len(shared), None, None)
    result = kendalltau([ours[name] for name in shared], [theirs[name] for name in shared])
    if result.statistic != result.statistic:
        return RankAgreement(rung, other, len(shared), None, None)
    return RankAgreement(rung, other, len(shared), float(result.statistic), float(result.pvalue))
