"""A curve as one number: the area under it, its slope against FID, and the loss along it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.integrate import trapezoid
from scipy.special import stdtrit

from oodml.errors import DataError
from oodml.eval.statistics.curves import Curves, SummaryRow, curves_of, rung_fids
from oodml.eval.statistics.intervals import Array, Estimate, over_seeds, t_estimate, t_interval
from oodml.eval.statistics.series import Series

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder


@dataclass(frozen=True)
class MethodScore:
    """The aggregated generalization score of one method: mean over `n` complete seeds.

    A seed is complete when it has a run on every rung; `missing` lists the (rung, seed) pairs
    without one. `mean` is None when no seed is complete, the interval also when only one is. The
    interval is Student's t over the complete seeds.
    """

    series: Series
    n: int
    mean: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...] = ()
    missing: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class MethodTrend:
    """How one method loses with FID, over `n` complete seeds; None where no seed is complete.

    `slope` is that of the least-squares line of the metric against FID scaled to [0, 1] over the
    rungs (`span` is the FID that this 1 stands for), its interval the one over seeds. `line` is the
    same slope with the interval of the regression over rungs: it is wide where the curve is not
    straight, and needs three rungs but only one seed. `lost` is the metric on the easiest rung less
    that on the hardest, `lost_share` the same as a share of the easiest.
    """

    series: Series
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


def aggregated_generalization_score(fids: Sequence[float], values: Sequence[float]) -> float:
    """The trapezoid area under `values` against `fids`, with FID scaled to [0, 1].

    Higher is better; a metric that is constant over the ladder scores its own value
    (arXiv:2107.09562). Raises `DataError` for fewer than two rungs, for FIDs that do
    not rise, or for values that are not finite.
    """
    x, y = np.asarray(fids, np.float64), np.asarray(values, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2:
        raise DataError(
            f"the aggregated generalization score needs one value for each of at least two FIDs; "
            f"given: {x.size} FIDs and {y.size} values."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (np.diff(x) > 0).all()):
        raise DataError(
            "the aggregated generalization score needs finite values and FIDs that rise strictly."
        )
    return float(trapezoid(y, (x - x[0]) / (x[-1] - x[0])))


def score_methods(rows: Sequence[SummaryRow], ladder: Ladder | None = None) -> list[MethodScore]:
    """The aggregated generalization score of every method, one per complete seed, by method.

    The rungs are the ladder's, or without one all that occur in `rows`. A seed without a run on
    some rung has no score and is listed as missing, never averaged over. With a single rung no
    score exists.
    """
    fids = {row.rung: row.fid for row in rows}
    if ladder is not None:
        fids = {number: split.fid for number, split in enumerate(ladder.rungs)}
    by_series: dict[Series, dict[int, dict[int, float]]] = defaultdict(dict)
    for row in rows:
        by_series[row.series][row.rung] = dict(zip(row.seeds, row.values, strict=True))
    return [_score(series, cells, fids) for series, cells in sorted(by_series.items())]


def method_trends(rows: Sequence[SummaryRow], ladder: Ladder | None = None) -> list[MethodTrend]:
    """The trend of every method over the ladder's rungs (default: those in `rows`), by method."""
    fids = rung_fids(rows)
    if ladder is not None:
        fids = {number: rung.fid for number, rung in enumerate(ladder.rungs)}
    return [_trend(curves) for curves in curves_of(rows, fids)]


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


def _score(
    series: Series, cells: dict[int, dict[int, float]], fids: dict[int, float]
) -> MethodScore:
    rungs = sorted(fids)
    seeds = sorted({seed for by_seed in cells.values() for seed in by_seed})
    missing = [(rung, seed) for rung in rungs for seed in seeds if seed not in cells.get(rung, {})]
    complete = [seed for seed in seeds if seed not in {seed for _, seed in missing}]
    if not complete or len(rungs) < 2:
        return MethodScore(series, 0, None, None, None, missing=tuple(missing))
    values = tuple(
        aggregated_generalization_score(
            [fids[rung] for rung in rungs], [cells[rung][seed] for rung in rungs]
        )
        for seed in complete
    )
    return MethodScore(series, len(values), *t_interval(values), values, tuple(missing))


def _trend(curves: Curves) -> MethodTrend:
    seeds, rungs = curves.values.shape
    if not seeds or rungs < 2:
        return MethodTrend(curves.series, 0, math.nan, None, None, None, None)
    span = float(curves.fids[-1] - curves.fids[0])
    scaled = (curves.fids - curves.fids[0]) / span
    first, last = curves.values[:, 0], curves.values[:, -1]
    shares = bool((first > 0).all())
    return MethodTrend(
        curves.series,
        seeds,
        span,
        t_estimate((curves.values @ _slope_weights(scaled)).tolist()),
        fitted_slope(scaled, curves.values.mean(0)),
        t_estimate((first - last).tolist()),
        over_seeds(lambda weights: 1 - (weights @ last) / (weights @ first), seeds)
        if shares
        else None,
    )


def _slope_weights(x: Array) -> Array:
    """The numbers whose product with y is the least-squares slope of y on x."""
    centred = x - x.mean()
    weights: Array = centred / (centred @ centred)
    return weights
