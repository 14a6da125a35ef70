"""From finished runs to curves: means and intervals over seeds, and the area under a curve."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.integrate import trapezoid
from scipy.special import stdtrit

from oodml.errors import DataError, unknown_name
from oodml.eval.statistics.comparable import check_comparable

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

logger = logging.getLogger("oodml")


@dataclass(frozen=True)
class SummaryRow:
    """One method on one rung: `mean` over `n` seeds and its 95% t-interval, None for one seed.

    `method` is the run's label, `fid` the rung's measured shift; `values` holds one value per
    seed in `seeds`, which rise. `fixed` says that nothing is trained, so that no seed changes the
    value and it may stand against any seed of another method.
    """

    method: str
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


@dataclass(frozen=True)
class MethodScore:
    """The aggregated generalization score of one method: mean over `n` complete seeds.

    A seed is complete when it has a run on every rung; `missing` lists the (rung, seed) pairs
    without one. `mean` is None when no seed is complete, the interval also when only one is. The
    interval is that of the bootstrap over seeds with the rungs kept (`intervals.over_seeds`), which
    for a value linear in the curve, as an area is, has the closed form of Student's t.
    """

    method: str
    n: int
    mean: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...] = ()
    missing: tuple[tuple[int, int], ...] = ()


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
    _check_metric(chosen, metric)
    cells: dict[tuple[str, int], list[RunRecord]] = defaultdict(list)
    for record, rung in chosen:
        cells[record.label, rung].append(record)
    return [_row(cells[cell], cell[1], ladder, metric) for cell in sorted(cells)]


def _row(records: Sequence[RunRecord], rung: int, ladder: Ladder, metric: str) -> SummaryRow:
    by_seed = {record.spec.seed: record.metrics[metric] for record in records}
    seeds = tuple(sorted(by_seed))
    values = tuple(by_seed[seed] for seed in seeds)
    mean, low, high = t_interval(values)
    return SummaryRow(
        records[0].label,
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


def t_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The mean and its 95% interval by Student's t with n - 1 degrees; no interval for n = 1."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None, None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, 0.975)) * error
    return mean, mean - reach, mean + reach


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
    by_method: dict[str, dict[int, dict[int, float]]] = defaultdict(dict)
    for row in rows:
        by_method[row.method][row.rung] = dict(zip(row.seeds, row.values, strict=True))
    return [_score(method, cells, fids) for method, cells in sorted(by_method.items())]


def _score(method: str, cells: dict[int, dict[int, float]], fids: dict[int, float]) -> MethodScore:
    rungs = sorted(fids)
    seeds = sorted({seed for by_seed in cells.values() for seed in by_seed})
    missing = [(rung, seed) for rung in rungs for seed in seeds if seed not in cells.get(rung, {})]
    complete = [seed for seed in seeds if seed not in {seed for _, seed in missing}]
    if not complete or len(rungs) < 2:
        return MethodScore(method, 0, None, None, None, missing=tuple(missing))
    values = tuple(
        aggregated_generalization_score(
            [fids[rung] for rung in rungs], [cells[rung][seed] for rung in rungs]
        )
        for seed in complete
    )
    return MethodScore(method, len(values), *t_interval(values), values, tuple(missing))


def comparable_runs(records: Iterable[RunRecord], ladder: Ladder) -> list[tuple[RunRecord, int]]:
    """The finished runs on the ladder's rungs, each with its rung's number.

    Runs on other splits are left out, with a warning. Raises `DataError` as `check_comparable`.
    """
    done = [record for record in records if record.status == "done"]
    placed = [(record, ladder.rung_of(record.spec.data.split)) for record in done]
    chosen = [(record, rung) for record, rung in placed if rung is not None]
    if len(chosen) < len(done):
        logger.warning(
            "%d of %d runs are on splits of another ladder and were left out",
            len(done) - len(chosen),
            len(done),
        )
    check_comparable(chosen, ladder)
    return chosen


def _check_metric(chosen: Sequence[tuple[RunRecord, int]], metric: str) -> None:
    measured = {name for record, _ in chosen for name in record.metrics}
    if chosen and metric not in measured:
        raise unknown_name("metric", metric, measured)
    lacking = [record.id for record, _ in chosen if metric not in record.metrics]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(chosen)} runs have no {metric}: {', '.join(lacking[:5])}. "
            "Evaluate them again, or choose a metric that all of them have."
        )
