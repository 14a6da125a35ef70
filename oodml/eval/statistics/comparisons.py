"""Methods against each other: differences, crossings, ranks, and deviation from their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
from scipy.special import stdtrit
from scipy.stats import kendalltau, rankdata, wilcoxon

from oodml.errors import DataError
from oodml.eval.statistics.curves import Curves, Pair, SummaryRow, curves_of, pairs_of, rung_fids
from oodml.eval.statistics.intervals import Array, Estimate, over_seeds, t_estimate
from oodml.eval.statistics.scores import MethodScore, line_ends
from oodml.eval.statistics.series import Series, grouped

LEVEL = 0.05
# With fewer pairs even equal signs leave Wilcoxon's two-sided p at 2 / 2^n above 0.05.
FEWEST_PAIRS = 6


@dataclass(frozen=True)
class Comparison:
    """`first` against `second` over their common rungs and seeds; `first` has the higher mean.

    `difference` is the mean over `pairs` = rungs x seeds, with the t-interval over the seeds' mean
    differences. `p` is that of Wilcoxon's signed-rank test over the pairs, `p_holm` the same
    corrected over all pairs of methods (Holm 1979). `left_out` counts runs without a partner.
    """

    first: Series
    second: Series
    rungs: int
    seeds: int
    pairs: int
    difference: Estimate
    p: float | None
    p_holm: float | None
    left_out: int = 0

    @property
    def verdict(self) -> str:
        """The claim that the runs support; a difference only where test and interval agree."""
        if self.p_holm is None:
            return f"too few pairs to tell ({self.pairs})"
        if self.difference.low is None:
            return "one seed: no interval, not separated"
        separated = self.p_holm < LEVEL and self.difference.sign == 1
        return (
            f"{self.first.name} above {self.second.name} on average"
            if separated
            else "not separated"
        )


@dataclass(frozen=True)
class Crossing:
    """`before` is above `after` at FID `low`, below it at FID `high`, and both are separated there.

    `fid` is where straight lines between the rungs' means cross. The intervals support no more than
    a crossing somewhere between `low` and `high`.
    """

    before: Series
    after: Series
    fid: float
    low: float
    high: float


@dataclass(frozen=True)
class RankAgreement:
    """How alike two rungs order the `methods` that both have.

    `tau` is Kendall's tau-b, 1 for the same order, -1 for the opposite, None where all are equal;
    `p` tests it against no association. Both are None with fewer than three methods.
    """

    rung: int
    other: int
    methods: int
    tau: float | None
    p: float | None


@dataclass(frozen=True)
class Deviation:
    """(metric - mean of the methods) / mean of the methods, of one method on one rung.

    The interval is over seeds, drawn for all methods together, so that effects of a seed that all
    methods share cancel. `in_mean` says whether the method takes part in the mean: those with a gap
    on some rung do not.
    """

    series: Series
    rung: int
    fid: float
    deviation: Estimate
    in_mean: bool = True


@dataclass(frozen=True)
class DeviationLine:
    """The least-squares line of a method's deviation against FID, by its ends."""

    series: Series
    easiest: float
    hardest: float


def compare_methods(rows: Sequence[SummaryRow], by: str | None = None) -> list[Comparison]:
    """Every two lines that share rungs and seeds, compared; in order of name.

    `by` "method" or "backbone" compares only those that share the other (see `grouped`).
    Runs are paired by rung and seed, so effects that both methods share cancel; a method that
    trains nothing is paired with every seed. Wilcoxon's test assumes independent pairs, which runs
    on overlapping splits are not quite: hence the interval has to agree.
    """
    found = [_compare(pair) for pair in _pairs(rows, by) if pair.differences.size]
    tested = [each.p for each in found if each.p is not None]
    corrected = iter(holm(tested))
    return [replace(each, p_holm=None if each.p is None else next(corrected)) for each in found]


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down corrected p-values of a family of tests (Holm, Scand. J. Statist. 6, 1979)."""
    corrected, highest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = highest
    return corrected


def crossings(rows: Sequence[SummaryRow], by: str | None = None) -> list[Crossing]:
    """The crossings of every two lines that their intervals allow to be stated.

    `by` is that of `compare_methods`.
    On each rung the paired difference over seeds has a t-interval at confidence 1 - 0.05 / rungs
    (Bonferroni). A crossing is stated between two rungs on which that interval excludes zero on
    opposite sides, with none so in between. Needs two seeds.
    """
    return [crossing for pair in _pairs(rows, by) for crossing in _of_pair(pair)]


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


def ranks(rows: Sequence[SummaryRow]) -> dict[int, dict[Series, float]]:
    """The rank of each method's mean on each rung: 1 is the highest, equal means share theirs."""
    found = {}
    for rung in rung_fids(rows):
        own = [row for row in rows if row.rung == rung]
        places = rankdata([-row.mean for row in own])
        found[rung] = {row.series: float(place) for row, place in zip(own, places, strict=True)}
    return found


def score_ranks(scores: Sequence[MethodScore]) -> dict[Series, float]:
    """The rank of each method's aggregated score, among those that have one."""
    known = {score.series: score.mean for score in scores if score.mean is not None}
    places = rankdata([-mean for mean in known.values()])
    return {series: float(place) for series, place in zip(known, places, strict=True)}


def rank_agreement(rows: Sequence[SummaryRow]) -> list[RankAgreement]:
    """Kendall's tau between every two rungs, easier first."""
    return [_agreement(rows, rung, other) for rung, other in combinations(rung_fids(rows), 2)]


def relative_deviation(
    rows: Sequence[SummaryRow],
    reference: Mapping[int, float] | None = None,
    by: str | None = None,
) -> list[Deviation]:
    """The deviation of every method on every rung where it has runs, by method, then rung.

    The mean is that of the methods with runs on every rung, each counted once whatever its seeds
    (arXiv:2107.09562, figure of zero-shot generalization, lower panel), or `reference`, a mean per
    rung, such as the published one; rungs without one are left out. Intervals need two seeds that
    every method has on every rung. `by` "method" takes the mean over the methods on the same
    backbone, "backbone" over the backbones with the same method. Raises `DataError` if no method
    is complete, or a mean is 0.
    """
    if reference is not None:
        return [
            Deviation(row.series, row.rung, row.fid, Estimate(row.mean / reference[row.rung] - 1))
            for row in rows
            if row.rung in reference
        ]
    found = [each for own in grouped(rows, by).values() for each in _deviations(own)]
    return sorted(found, key=lambda each: (each.series, each.rung))


def deviation_lines(deviations: Sequence[Deviation]) -> list[DeviationLine]:
    """The line of every method that has at least three rungs, by method."""
    lines = []
    for series in sorted({each.series for each in deviations}):
        own = sorted((d for d in deviations if d.series == series), key=lambda d: d.fid)
        if len(own) >= 3:
            x = np.array([each.fid for each in own])
            y = np.array([each.deviation.value for each in own])
            lines.append(DeviationLine(series, *line_ends(x, y)))
    return lines


def _pairs(rows: Sequence[SummaryRow], by: str | None) -> list[Pair]:
    return [pair for own in grouped(rows, by).values() for pair in pairs_of(own)]


def _deviations(rows: Sequence[SummaryRow]) -> list[Deviation]:
    """The deviation of every row from the mean of the complete ones."""
    fids = rung_fids(rows)
    complete = [curves for curves in curves_of(rows) if _rungs(rows, curves.series) == set(fids)]
    if not complete:
        raise DataError(
            "no method has runs on every rung, so there is no mean to compare with; finish the "
            "grid with `oodml run`."
        )
    means = {(row.series, row.rung): row.mean for row in rows}
    members = [curves.series for curves in complete]
    centre = {rung: float(np.mean([means[series, rung] for series in members])) for rung in fids}
    if not all(centre.values()):
        raise DataError("the methods' mean is 0 on some rung; nothing is relative to it.")
    reaches = _reaches(complete, list(fids))
    deviations = []
    for row in rows:
        value = row.mean / centre[row.rung] - 1
        reach = reaches.get((row.series, row.rung))
        ends = (None, None) if reach is None else (value - reach, value + reach)
        deviations.append(
            Deviation(row.series, row.rung, row.fid, Estimate(value, *ends), row.series in members)
        )
    return deviations


def _compare(pair: Pair) -> Comparison:
    first, second, differences = pair.first, pair.second, pair.differences
    if differences.mean() < 0:
        first, second, differences = second, first, -differences
    seeds, rungs = differences.shape
    by_seed = differences.mean(1)
    return Comparison(
        first,
        second,
        rungs,
        seeds,
        differences.size,
        t_estimate(by_seed.tolist()),
        _signed_rank(differences),
        None,
        pair.left_out,
    )


def _signed_rank(differences: Array) -> float | None:
    """Wilcoxon's two-sided p; 1 where all pairs are equal, None with fewer than six pairs."""
    if differences.size < FEWEST_PAIRS:
        return None
    if not differences.any():
        return 1.0
    # Equal differences of rounded scores must tie, which floating point alone would break.
    return float(wilcoxon(np.round(differences.ravel(), 12)).pvalue)


def _of_pair(pair: Pair) -> list[Crossing]:
    signs = separated_signs(pair.differences)
    separated = [number for number, sign in enumerate(signs) if sign]
    found = []
    for left, right in pairwise(separated):
        if signs[left] == -signs[right]:
            names = (pair.first, pair.second)
            before, after = names if signs[left] > 0 else names[::-1]
            fid = _zero(pair.fids[left : right + 1], pair.differences.mean(0)[left : right + 1])
            found.append(
                Crossing(before, after, fid, float(pair.fids[left]), float(pair.fids[right]))
            )
    return found


def _zero(fids: Array, means: Array) -> float:
    """The middle one of the places where the broken line through the means passes zero."""
    places = []
    for number in range(len(fids) - 1):
        one, other = float(means[number]), float(means[number + 1])
        if (one > 0) != (other > 0):
            share = one / (one - other)
            places.append(float(fids[number] + share * (fids[number + 1] - fids[number])))
    return places[len(places) // 2]


def _agreement(rows: Sequence[SummaryRow], rung: int, other: int) -> RankAgreement:
    ours, theirs = (
        {row.series: row.mean for row in rows if row.rung == number} for number in (rung, other)
    )
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) < 3:
        return RankAgreement(rung, other, len(shared), None, None)
    result = kendalltau([ours[name] for name in shared], [theirs[name] for name in shared])
    if result.statistic != result.statistic:
        return RankAgreement(rung, other, len(shared), None, None)
    return RankAgreement(rung, other, len(shared), float(result.statistic), float(result.pvalue))


def _rungs(rows: Sequence[SummaryRow], series: Series) -> set[int]:
    return {row.rung for row in rows if row.series == series}


def _reaches(complete: Sequence[Curves], rungs: Sequence[int]) -> dict[tuple[Series, int], float]:
    """Half the interval of each method and rung, from the seeds that all methods share."""
    trained = [set(curves.seeds) for curves in complete if not curves.fixed]
    seeds = sorted(set.intersection(*trained)) if trained else []
    if len(seeds) < 2:
        return {}
    matrices = [_of_seeds(curves, seeds) for curves in complete]
    reaches = {}
    for number, curves in enumerate(complete):
        for column, rung in enumerate(rungs):
            columns = np.stack([matrix[:, column] for matrix in matrices], axis=1)
            reaches[curves.series, rung] = _reach(columns, number)
    return reaches


def _of_seeds(curves: Curves, seeds: Sequence[int]) -> Array:
    if curves.fixed:
        return np.repeat(curves.values, len(seeds), axis=0)
    return curves.values[[curves.seeds.index(seed) for seed in seeds]]


def _reach(columns: Array, number: int) -> float:
    def deviation(weights: Array) -> Array:
        means = weights @ columns
        ratio: Array = means[:, number] / means.mean(1) - 1
        return ratio

    found = over_seeds(deviation, len(columns))
    return 0.0 if found.high is None else found.high - found.value
