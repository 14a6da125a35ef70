"""How much a method loses along the ladder: the slope against FID, and easiest minus hardest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.special import stdtrit

from oodml.eval.statistics.curves import Curves, curves_of, rung_fids
from oodml.eval.statistics.intervals import Array, Estimate, over_seeds
from oodml.eval.statistics.scores import SummaryRow

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder


@dataclass(frozen=True)
class MethodTrend:
    """What FID costs one method, over `n` complete seeds; None where no seed is complete.

    `slope` is that of the least-squares line of the metric against FID scaled to [0, 1] over the
    rungs (`span` is the FID that this 1 stands for), its interval the one over seeds. `line` is the
    same slope with the interval of the regression over rungs: it is wide where the curve is no
    line, and needs three rungs but only one seed. `lost` is the metric on the easiest rung minus
    that on the hardest, `lost_share` the same as a share of the easiest.
    """

    method: str
    n: int
    span: float
    slope: Estimate | None
    line: Estimate | None
    lost: Estimate | None
    lost_share: Estimate | None

    def per_100(self, slope: Estimate | None) -> Estimate | None:
        """A slope per 100 FID instead of per unit of scaled FID."""
        if slope is None:
            return None
        factor = 100 / self.span
        ends = [None if end is None else end * factor for end in (slope.low, slope.high)]
        return Estimate(slope.value * factor, *ends)


def method_trends(rows: Sequence[SummaryRow], ladder: Ladder | None = None) -> list[MethodTrend]:
    """The trend of every method over the ladder's rungs (default: those in `rows`), by method."""
    fids = rung_fids(rows)
    if ladder is not None:
        fids = {number: rung.fid for number, rung in enumerate(ladder.rungs)}
    return [_trend(curves) for curves in curves_of(rows, fids)]


def _trend(curves: Curves) -> MethodTrend:
    seeds, rungs = curves.values.shape
    if not seeds or rungs < 2:
        return MethodTrend(curves.method, 0, math.nan, None, None, None, None)
    span = float(curves.fids[-1] - curves.fids[0])
    scaled = (curves.fids - curves.fids[0]) / span
    first, last = curves.values[:, 0], curves.values[:, -1]
    shares = bool((first > 0).all())
    return MethodTrend(
        curves.method,
        seeds,
        span,
        over_seeds(lambda weights: weights @ curves.values @ _slope_weights(scaled), seeds),
        fitted_slope(scaled, curves.values.mean(0)),
        over_seeds(lambda weights: weights @ (first - last), seeds),
        over_seeds(lambda weights: 1 - (weights @ last) / (weights @ first), seeds)
        if shares
        else None,
    )


def _slope_weights(x: Array) -> Array:
    """The numbers whose product with y is the least-squares slope of y on x."""
    centred = x - x.mean()
    weights: Array = centred / (centred @ centred)
    return weights


def fitted_slope(x: Array, y: Array) -> Estimate:
    """The least-squares slope of y on x and its t-interval with n - 2 degrees, from n = 3 on.

    `x` and `y` are float64 arrays (n,).
    """
    weights = _slope_weights(x)
    slope = float(weights @ y)
    if len(x) < 3:
        return Estimate(slope)
    residuals = y - y.mean() - slope * (x - x.mean())
    degrees = len(x) - 2
    error = math.sqrt(float(residuals @ residuals) / degrees * float(weights @ weights))
    reach = float(stdtrit(degrees, 0.975)) * error
    return Estimate(slope, slope - reach, slope + reach)


def line_ends(x: Array, y: Array) -> tuple[float, float]:
    """The least-squares line of y on x at the first and at the last x.

    `x` and `y` are float64 arrays (n,).
    """
    slope = fitted_slope(x, y).value
    middle = float(y.mean()), float(x.mean())
    ends = [middle[0] + slope * (float(at) - middle[1]) for at in (x[0], x[-1])]
    return ends[0], ends[1]
