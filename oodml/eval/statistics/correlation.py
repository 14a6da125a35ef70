"""Correlations over methods between properties of the embedding and a retrieval metric."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from oodml.errors import DataError, UsageError, unknown_name
from oodml.eval.statistics.comparable import comparable_runs
from oodml.eval.statistics.intervals import Array, Estimate
from oodml.eval.statistics.series import Series, grouped
from oodml.seeding import generator

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

SIDES = ("train", "test")
DRAWS = 1000
# A bootstrap over fewer methods than this hardly varies.
FEWEST_METHODS = 6
_Z = 1.959964  # the 97.5% point of the normal distribution


@dataclass(frozen=True)
class Correlation:
    """The correlation of a property of the `side` "train" or "test" and a metric.

    `scope` is "rung N" (over methods on that rung), "pooled" (over methods and rungs together,
    so that effects of shift on both count too) or "within" (the same after each rung's mean is
    taken off both). A point is a method's mean over its seeds; `points` counts them. Intervals:
    within a rung Fisher's z, from four points on, with the variance (1 + r^2 / 2) / (n - 3) for
    Spearman (Bonett and Wright 2000); for "pooled" and "within" percentiles of a bootstrap over
    methods, from six methods on. None where a side does not vary. `group` names the backbone or
    the method that all points share, if they are compared by the other.
    """

    property: str
    side: str
    scope: str
    points: int
    methods: int
    pearson: Estimate | None
    spearman: Estimate | None
    group: str = ""


@dataclass(frozen=True)
class Point:
    """One method on one rung: the means over its seeds of a property and of the metric."""

    series: Series
    rung: int
    x: float
    y: float


def correlate_geometry(
    records: Iterable[RunRecord],
    ladder: Ladder,
    metric: str = "recall_at_1",
    by: str | None = None,
) -> list[Correlation]:
    """The correlation of every property with the metric: per rung, pooled and within rungs.

    `by` "method" correlates over the methods on each backbone, "backbone" over the backbones with
    each method; one has to be chosen where there are several of both, as the properties of models
    differ for reasons of their own. Raises `DataError` if no run carries geometry or runs cannot be
    compared, `UsageError` for an unknown metric and for a choice that is lacking or has no effect.
    """
    points = geometry_points(records, ladder, metric)
    _check_choice(points, by)
    return [
        replace(each, group=group)
        for (name, side), own in points.items()
        for group, members in grouped(own, by).items()
        for each in _correlations(name, side, members)
    ]


def geometry_points(
    records: Iterable[RunRecord], ladder: Ladder, metric: str = "recall_at_1"
) -> dict[tuple[str, str], list[Point]]:
    """The points of every (property, side), by method, then rung."""
    cells: dict[tuple[str, str], dict[tuple[Series, int], list[tuple[float, float]]]]
    cells = defaultdict(lambda: defaultdict(list))
    chosen = comparable_runs(records, ladder)
    known = {name for record, _, _ in chosen for name in record.metrics}
    if chosen and metric not in known:
        raise unknown_name("metric", metric, known)
    for record, rung, series in chosen:
        for side in SIDES:
            for name, value in record.geometry.get(side, {}).items():
                if metric in record.metrics and math.isfinite(value):
                    pair = (value, record.metrics[metric])
                    cells[name, side][series, rung].append(pair)
    if not cells:
        raise DataError(
            "no run carries the geometry of its embeddings; those of this version do: run the grid "
            "again into a new directory."
        )
    return {
        key: [
            Point(series, rung, *np.mean(pairs, axis=0).tolist())
            for (series, rung), pairs in sorted(own.items())
        ]
        for key, own in sorted(cells.items())
    }


def _check_choice(points: Mapping[tuple[str, str], Sequence[Point]], by: str | None) -> None:
    lines = {p.series for own in points.values() for p in own if p.series.among_several}
    models = {line.backbone for line in lines}
    if by is None and len(models) > 1 and len({line.method for line in lines}) > 1:
        raise UsageError(
            f"these runs are of {len(models)} models ({', '.join(sorted(models))}); correlate over "
            "methods with by='method', or over models with by='backbone'."
        )


def _correlations(name: str, side: str, points: Sequence[Point]) -> list[Correlation]:
    rungs = sorted({point.rung for point in points})
    found = [_on_rung(name, side, rung, [p for p in points if p.rung == rung]) for rung in rungs]
    if len(rungs) > 1:
        found += [_over_rungs(name, side, scope, points) for scope in ("pooled", "within")]
    return found


def _on_rung(name: str, side: str, rung: int, points: Sequence[Point]) -> Correlation:
    x, y = _columns(points)
    return Correlation(
        name,
        side,
        f"rung {rung}",
        len(points),
        len(points),
        fisher(pearson(x, y), len(points)),
        fisher(pearson(rankdata(x), rankdata(y)), len(points), of_ranks=True),
    )


def _over_rungs(name: str, side: str, scope: str, points: Sequence[Point]) -> Correlation:
    if scope == "pooled":
        x, y = _columns(points)
        pairs = ((x, y), (rankdata(x), rankdata(y)))
    else:
        pairs = (_centred(points, ranked=False), _centred(points, ranked=True))
    lines = sorted({point.series for point in points})
    rows = [[i for i, p in enumerate(points) if p.series == line] for line in lines]
    values, ranks = (_over_methods(a, b, rows, (name, side, scope)) for a, b in pairs)
    return Correlation(name, side, scope, len(points), len(lines), values, ranks)


def _columns(points: Sequence[Point]) -> tuple[Array, Array]:
    return np.array([p.x for p in points]), np.array([p.y for p in points])


def _centred(points: Sequence[Point], *, ranked: bool) -> tuple[Array, Array]:
    """Values, or their ranks on each rung, less the mean of the rung."""
    x, y = _columns(points)
    rung = np.array([point.rung for point in points])
    for number in set(rung.tolist()):
        own = rung == number
        for values in (x, y):
            part = rankdata(values[own]) if ranked else values[own]
            values[own] = part - part.mean()
    return x, y


def pearson(x: Array, y: Array) -> float | None:
    """Pearson's correlation; None for fewer than three points or where one does not vary.

    `x` and `y` are float64 arrays (n,).
    """
    if len(x) < 3:
        return None
    a, b = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    floor = 1e-12 * math.sqrt(float(x @ x) * float(y @ y))
    return max(-1.0, min(1.0, float(a @ b) / scale)) if scale > floor else None


def fisher(correlation: float | None, points: int, *, of_ranks: bool = False) -> Estimate | None:
    """A correlation with its 95% interval by Fisher's z, from four points on."""
    if correlation is None:
        return None
    if points < 4 or abs(correlation) == 1:
        return Estimate(correlation)
    variance = (1 + correlation**2 / 2 if of_ranks else 1) / (points - 3)
    centre, reach = math.atanh(correlation), _Z * math.sqrt(variance)
    return Estimate(correlation, math.tanh(centre - reach), math.tanh(centre + reach))


def _over_methods(
    x: Array, y: Array, rows: Sequence[Sequence[int]], purpose: tuple[str, ...]
) -> Estimate | None:
    """A correlation with the percentiles of a bootstrap that draws methods with all their rungs."""
    value = pearson(x, y)
    if value is None or len(rows) < FEWEST_METHODS:
        return None if value is None else Estimate(value)
    random = generator(0, "geometry", *purpose)
    picks = random.integers(len(rows), size=(DRAWS, len(rows)))
    drawn = []
    for pick in picks:
        chosen = np.concatenate([np.asarray(rows[number]) for number in pick])
        found = pearson(x[chosen], y[chosen])
        if found is not None:
            drawn.append(found)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
