"""Two methods at a time: how far apart they are, and whether the runs can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import wilcoxon

from oodml.eval.statistics.curves import Pair, pairs_of
from oodml.eval.statistics.intervals import Array, Estimate, over_seeds
from oodml.eval.statistics.scores import SummaryRow

LEVEL = 0.05
# With fewer pairs even equal signs leave Wilcoxon's two-sided p at 2 / 2^n above 0.05.
FEWEST_PAIRS = 6


@dataclass(frozen=True)
class Comparison:
    """`first` against `second` over their common rungs and seeds; `first` has the higher mean.

    `difference` is the mean over `pairs` = rungs x seeds, with the interval of a paired bootstrap
    over seeds, rungs kept. `p` is that of Wilcoxon's signed-rank test over the pairs, `p_holm` the
    same corrected over all pairs of methods (Holm 1979). `left_out` counts runs without a partner.
    """

    first: str
    second: str
    rungs: int
    seeds: int
    pairs: int
    difference: Estimate
    p: float | None
    p_holm: float | None
    left_out: int = 0

    @property
    def verdict(self) -> str:
        """What may be said: "separated" only where test and interval both say so."""
        if self.p_holm is None:
            return f"too few pairs to tell ({self.pairs})"
        if self.difference.low is None:
            return "one seed: no interval, not separated"
        separated = self.p_holm < LEVEL and self.difference.sign == 1
        return f"{self.first} above {self.second} on average" if separated else "not separated"


def compare_methods(rows: Sequence[SummaryRow]) -> list[Comparison]:
    """Every two methods that share runs, compared; in order of name.

    Runs are paired by rung and seed, so what a rung or a seed does to both falls out; a method
    that trains nothing stands against every seed. Wilcoxon's test takes the pairs for independent,
    which runs on overlapping splits are not quite: hence the interval has to agree.
    """
    found = [_compare(pair) for pair in pairs_of(rows) if pair.differences.size]
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
        over_seeds(lambda weights: weights @ by_seed, seeds),
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
    # Differences of rounded values tie only if floating point does not tell them apart.
    return float(wilcoxon(np.round(differences.ravel(), 12)).pvalue)
