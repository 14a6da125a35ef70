"""From finished runs to curves: a row per method and rung, and matrices (seeds, rungs)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from oodml.errors import DataError, unknown_name
from oodml.eval.statistics.comparable import comparable_runs
from oodml.eval.statistics.intervals import Array, t_interval
from oodml.eval.statistics.series import Series

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder


@dataclass(frozen=True, eq=False)
class Curves:
    """The complete curves of one series: `values` (seeds, rungs) over the FIDs (rungs,).

    Only seeds with a run on every rung are in; `missing` lists the (rung, seed) pairs that others
    lack. `fixed` curves have one row that no seed changes.
    """

    series: Series
    fids: Array
    values: Array
    seeds: tuple[int, ...]
    missing: tuple[tuple[int, int], ...]
    fixed: bool = False


@dataclass(frozen=True, eq=False)
class Pair:
    """Two series' curves on the rungs and seeds that both have: `first` minus `second`.

    `differences` is (seeds, rungs); `rungs` numbers its columns, `fids` are theirs. `left_out`
    counts the runs of either series that have no partner.
    """

    first: Series
    second: Series
    rungs: tuple[int, ...]
    fids: Array
    differences: Array
    left_out: int


Cells = dict[int, dict[int, float]]


@dataclass(frozen=True)
class SummaryRow:
    """One line on one rung: `mean` over `n` seeds and its 95% t-interval, None for one seed.

    `series` is the method and its model, `fid` the rung's measured shift; `values` holds one value
    per seed in `seeds`, which rise. `fixed` says that nothing is trained, so that no seed changes
    the value and it may be paired with any seed of another method.
    """

    series: Series
    rung: int
    split: str
    fid: float
    n: int
    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]
    seeds: tuple[int, ...] = ()
    fixed: bool = False


def rung_fids(rows: Sequence[SummaryRow]) -> dict[int, float]:
    """The FID of every rung in the rows, by rung."""
    fids = {row.rung: row.fid for row in rows}
    return {rung: fids[rung] for rung in sorted(fids)}


def curves_of(rows: Sequence[SummaryRow], fids: dict[int, float] | None = None) -> list[Curves]:
    """The complete curves of every method over the rungs in `fids` (default: in `rows`)."""
    known = rung_fids(rows) if fids is None else fids
    return [
        _curves(series, own, known, _is_fixed(rows, series)) for series, own in _cells(rows).items()
    ]


def pairs_of(rows: Sequence[SummaryRow]) -> list[Pair]:
    """Every two methods on the rungs and seeds that both have, methods in order of name.

    A method that trains nothing is paired with every seed of the other.
    """
    cells, fids = _cells(rows), rung_fids(rows)
    fixed = {series: _is_fixed(rows, series) for series in cells}
    return [_pair(one, other, cells, fixed, fids) for one, other in combinations(cells, 2)]


def summarize(
    records: Iterable[RunRecord],
    ladder: Ladder,
    metric: str = "recall_at_1",
) -> list[SummaryRow]:
    """One row per method and rung that has finished runs, by method, then rung.

    Runs on splits outside the ladder are left out, with a warning. Raises `DataError` if runs on
    the ladder's splits cannot be compared (see `check_comparable`) or if one lacks the metric;
    `UsageError` if no run has it.
    """
    chosen = comparable_runs(records, ladder)
    check_metric(chosen, metric)
    cells: dict[tuple[Series, int], list[RunRecord]] = defaultdict(list)
    for record, rung, series in chosen:
        cells[series, rung].append(record)
    return [_summary_row(*cell, cells[cell], ladder, metric) for cell in sorted(cells)]


def check_metric(chosen: Sequence[tuple[RunRecord, int, Series]], metric: str) -> None:
    """`UsageError` if no run has the metric, `DataError` if some lack it."""
    measured = {name for record, _, _ in chosen for name in record.metrics}
    if chosen and metric not in measured:
        raise unknown_name("metric", metric, measured)
    lacking = [record.id for record, _, _ in chosen if metric not in record.metrics]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(chosen)} runs have no {metric}: {', '.join(lacking[:5])}. "
            "Evaluate them again, or choose a metric that all of them have."
        )


def _cells(rows: Sequence[SummaryRow]) -> dict[Series, Cells]:
    cells: dict[Series, Cells] = {series: {} for series in sorted({row.series for row in rows})}
    for row in rows:
        cells[row.series][row.rung] = dict(zip(row.seeds, row.values, strict=True))
    return cells


def _is_fixed(rows: Sequence[SummaryRow], series: Series) -> bool:
    return all(row.fixed and row.n == 1 for row in rows if row.series == series)


def _curves(series: Series, own: Cells, fids: dict[int, float], fixed: bool) -> Curves:
    seeds = sorted({seed for by_seed in own.values() for seed in by_seed})
    missing = [(rung, seed) for rung in fids for seed in seeds if seed not in own.get(rung, {})]
    complete = [seed for seed in seeds if seed not in {seed for _, seed in missing}]
    values = np.array([[own[rung][seed] for rung in fids] for seed in complete], np.float64)
    return Curves(
        series,
        np.array(list(fids.values()), np.float64),
        values.reshape(len(complete), len(fids)),
        tuple(complete),
        tuple(missing),
        fixed,
    )


def _pair(
    one: Series,
    other: Series,
    cells: dict[Series, Cells],
    fixed: dict[Series, bool],
    fids: dict[int, float],
) -> Pair:
    ours, theirs = cells[one], cells[other]
    if fixed[one] and not fixed[other]:
        ours = _repeated(ours, theirs)
    if fixed[other] and not fixed[one]:
        theirs = _repeated(theirs, ours)
    rungs = [rung for rung in fids if ours.get(rung) and theirs.get(rung)]
    shared = [set(ours[rung]) & set(theirs[rung]) for rung in rungs]
    seeds = sorted(set.intersection(*shared)) if shared else []
    differences = [[ours[rung][seed] - theirs[rung][seed] for rung in rungs] for seed in seeds]
    runs = sum(len(by_seed) for own in (ours, theirs) for by_seed in own.values())
    return Pair(
        one,
        other,
        tuple(rungs),
        np.array([fids[rung] for rung in rungs], np.float64),
        np.array(differences, np.float64).reshape(len(seeds), len(rungs)),
        runs - 2 * len(rungs) * len(seeds),
    )


def _repeated(fixed: Cells, trained: Cells) -> Cells:
    """The one value of a rung for each seed that the other method has there."""
    return {
        rung: dict.fromkeys(trained.get(rung, by_seed), next(iter(by_seed.values())))
        for rung, by_seed in fixed.items()
    }


def _summary_row(
    series: Series, rung: int, records: Sequence[RunRecord], ladder: Ladder, metric: str
) -> SummaryRow:
    by_seed = {record.spec.seed: record.metrics[metric] for record in records}
    seeds = tuple(sorted(by_seed))
    values = tuple(by_seed[seed] for seed in seeds)
    mean, low, high = t_interval(values)
    return SummaryRow(
        series,
        rung,
        records[0].spec.data.split,
        ladder.rungs[rung].fid,
        len(seeds),
        mean,
        low,
        high,
        values,
        seeds,
        fixed=records[0].spec.model.train == "none",
    )
