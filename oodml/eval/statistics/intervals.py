"""95% intervals over seeds: Student's t, Fieller's for ratios, a bootstrap for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from oodml.seeding import generator

Array = npt.NDArray[np.float64]
# Up to here all resamples are listed, 1,716 at most, and the bootstrap is exact; above it is drawn.
EXACT_SEEDS = 7
DRAWS = 4000


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval; None for both ends where the data allow none."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of zero; 0 where it does not, or is none."""
        if self.low is None or self.high is None:
            return 0
        return int(self.low > 0) - int(self.high < 0)


def t_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The mean and its 95% interval by Student's t with n - 1 degrees; no interval for n = 1."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None, None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, 0.975)) * error
    return mean, mean - reach, mean + reach


def t_estimate(values: Sequence[float]) -> Estimate:
    """The mean of the values, one per seed, with its 95% t-interval."""
    return Estimate(*t_interval(values))


def ratio_estimate(numerators: Array, denominators: Array) -> Estimate | None:
    """The mean of `numerators` over that of `denominators`, (seeds,) each, with Fieller's interval.

    It holds every ratio r for which the t-interval of numerators - r x denominators holds zero
    (Fieller, J. R. Statist. Soc. B 16, 1954), which is an interval just where the denominators' own
    excludes zero. None unless that lies above zero, and for one seed.
    """
    if t_estimate(denominators.tolist()).sign < 1:
        return None
    value = float(numerators.mean() / denominators.mean())
    low, high = interval_zeros(numerators, -denominators)
    return Estimate(value, min(low, value), max(high, value))


def interval_zeros(base: Array, slope: Array) -> list[float]:
    """The w, rising, at which an end of the 95% t-interval of base + w x slope is zero.

    `base` and `slope` are (seeds,), two seeds at least; there are two such w or none, one of them
    infinite where an end only nears zero.
    """
    seeds = len(base)
    spread = np.cov(base, slope) * float(stdtrit(seeds - 1, 0.975)) ** 2 / seeds
    constant = float(base.mean()) ** 2 - float(spread[0, 0])
    linear = 2 * (float(base.mean() * slope.mean()) - float(spread[0, 1]))
    square = float(slope.mean()) ** 2 - float(spread[1, 1])
    inside = linear**2 - 4 * square * constant
    # Equal seeds leave a double root, which rounding must not lose.
    if inside < -1e-12 * linear**2 or linear == square == 0:
        return []
    half = -(linear + math.copysign(math.sqrt(max(inside, 0.0)), linear)) / 2
    return sorted(
        [half / square if square else math.inf, constant / half if half else 0.0],
    )


def over_seeds(statistic: Callable[[Array], Array], seeds: int) -> Estimate:
    """A ratio or another nonlinear statistic of all seeds, with a 95% bootstrap interval.

    `statistic` maps weights (m, seeds), each row summing to 1, to m values: row by row the value
    that it has when seed s counts as often as its weight says. A seed is drawn with its runs on
    every rung, so the rungs are kept and what seeds share across rungs is kept too.

    The interval is the value plus and minus t x standard error, the error that of the bootstrap
    times sqrt(n / (n - 1)) and t Student's quantile with n - 1 degrees (Hesterberg,
    arXiv:1411.5279). Percentiles are not used: those of n seeds never leave the seeds' range, which
    holds the truth with a chance of 1 - 2^(1 - n) at most, 75% for three seeds. For a mean of the
    seeds this would equal `t_interval`, which is used there. One seed gives no interval.
    """
    value = float(statistic(np.full((1, seeds), 1 / seeds))[0])
    if seeds < 2:
        return Estimate(value)
    weights, chances = resamples(seeds)
    drawn = statistic(weights)
    variance = float(chances @ (drawn - chances @ drawn) ** 2)
    reach = float(stdtrit(seeds - 1, 0.975)) * math.sqrt(variance * seeds / (seeds - 1))
    return Estimate(value, value - reach, value + reach)


@cache
def resamples(seeds: int) -> tuple[Array, Array]:
    """Weights (m, seeds) of the resamples of so many seeds, and the chance (m,) of each.

    All of them up to seven seeds, else 4,000 drawn from a fixed seed.
    """
    if seeds > EXACT_SEEDS:
        random = generator(0, "bootstrap over seeds", seeds)
        counts = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS)
        return counts / seeds, np.full(DRAWS, 1 / DRAWS)
    drawn = combinations_with_replacement(range(seeds), seeds)
    counts = np.array([np.bincount(picks, minlength=seeds) for picks in drawn])
    orders = [
        math.factorial(seeds) / math.prod(map(math.factorial, row)) for row in counts.tolist()
    ]
    return counts / seeds, np.array(orders) / seeds**seeds
