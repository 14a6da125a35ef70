"""Relative deviation of each method from the mean of the methods, as the study drew it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oodml.errors import DataError
from oodml.eval.statistics.curves import Curves, curves_of, rung_fids
from oodml.eval.statistics.intervals import Array, Estimate, over_seeds
from oodml.eval.statistics.scores import SummaryRow
from oodml.eval.statistics.trend import line_ends


@dataclass(frozen=True)
class Deviation:
    """(metric - mean of the methods) / mean of the methods, of one method on one rung.

    The interval is over seeds, drawn for all methods together, so that what a seed does to all of
    them falls out. `in_mean` says whether the method takes part in the mean: those with a gap on
    some rung do not.
    """

    method: str
    rung: int
    fid: float
    deviation: Estimate
    in_mean: bool = True


@dataclass(frozen=True)
class DeviationLine:
    """The least-squares line of a method's deviation against FID, by its ends."""

    method: str
    easiest: float
    hardest: float


def relative_deviation(
    rows: Sequence[SummaryRow], reference: Mapping[int, float] | None = None
) -> list[Deviation]:
    """The deviation of every method on every rung where it has runs, by method, then rung.

    The mean is that of the methods with runs on every rung, each counted once whatever its seeds
    (arXiv:2107.09562, figure of zero-shot generalization, lower panel), or `reference`, a mean per
    rung, such as the published one; rungs without one are left out. Intervals need two seeds that
    every method has on every rung. Raises `DataError` if no method is complete, or a mean is 0.
    """
    if reference is not None:
        return [
            Deviation(row.method, row.rung, row.fid, Estimate(row.mean / reference[row.rung] - 1))
            for row in rows
            if row.rung in reference
        ]
    fids = rung_fids(rows)
    complete = [curves for curves in curves_of(rows) if _rungs(rows, curves.method) == set(fids)]
    if not complete:
        raise DataError(
            "no method has runs on every rung, so there is no mean to compare with; finish the "
            "grid with `oodml run`."
        )
    means = {(row.method, row.rung): row.mean for row in rows}
    members = [curves.method for curves in complete]
    centre = {rung: float(np.mean([means[method, rung] for method in members])) for rung in fids}
    if not all(centre.values()):
        raise DataError("the methods' mean is 0 on some rung; nothing is relative to it.")
    reaches = _reaches(complete, list(fids))
    deviations = []
    for row in rows:
        value = row.mean / centre[row.rung] - 1
        reach = reaches.get((row.method, row.rung))
        ends = (None, None) if reach is None else (value - reach, value + reach)
        deviations.append(
            Deviation(row.method, row.rung, row.fid, Estimate(value, *ends), row.method in members)
        )
    return deviations


def deviation_lines(deviations: Sequence[Deviation]) -> list[DeviationLine]:
    """The line of every method that has at least three rungs, by method."""
    lines = []
    for method in sorted({each.method for each in deviations}):
        own = sorted((d for d in deviations if d.method == method), key=lambda d: d.fid)
        if len(own) >= 3:
            x = np.array([each.fid for each in own])
            y = np.array([each.deviation.value for each in own])
            lines.append(DeviationLine(method, *line_ends(x, y)))
    return lines


def _rungs(rows: Sequence[SummaryRow], method: str) -> set[int]:
    return {row.rung for row in rows if row.method == method}


def _reaches(complete: Sequence[Curves], rungs: Sequence[int]) -> dict[tuple[str, int], float]:
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
            reaches[curves.method, rung] = _reach(columns, number)
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
