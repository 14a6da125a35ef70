"""Gains from adapting to a few images of each test class: few-shot minus zero-shot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from oodml.errors import DataError
from oodml.eval.statistics.comparable import comparable_runs
from oodml.eval.statistics.intervals import Array, Estimate, t_estimate
from oodml.eval.statistics.series import Series

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder


@dataclass(frozen=True)
class FewShotRow:
    """One method on one rung after adaptation on `shots` images a class.

    Means over `episodes` of values averaged over `seeds`; the intervals are 95% t-intervals over
    the episodes, as published. `relative_gain` is (few-shot - zero-shot) / zero-shot per episode,
    None where a zero-shot value is 0. `left_out` counts the test classes that are too small.
    """

    series: Series
    shots: int
    rung: int
    fid: float
    episodes: int
    seeds: int
    zero_shot: Estimate
    few_shot: Estimate
    gain: Estimate
    relative_gain: Estimate | None
    left_out: int = 0


def few_shot_gains(
    records: Iterable[RunRecord], ladder: Ladder, metric: str = "recall_at_1"
) -> list[FewShotRow]:
    """One row per method, shots and rung that has few-shot episodes, in this order.

    Raises `DataError` if the runs cannot be compared, if the seeds of a method have different
    numbers of episodes, or if an episode lacks the metric.
    """
    cells: dict[tuple[Series, int, int], list[Array]] = defaultdict(list)
    left_out: dict[tuple[Series, int, int], int] = defaultdict(int)
    for record, rung, series in comparable_runs(records, ladder):
        for shots, found in record.few_shot.items():
            cell = series, int(shots), rung
            cells[cell].append(_episodes(record, found, metric))
            left_out[cell] = max(left_out[cell], found.get("left_out", 0))
    return [
        replace(
            _row(series, shots, rung, ladder.rungs[rung].fid, cells[series, shots, rung]),
            left_out=left_out[series, shots, rung],
        )
        for series, shots, rung in sorted(cells)
    ]


def _episodes(record: RunRecord, found: dict[str, Any], metric: str) -> Array:
    """Zero-shot and few-shot values of one run, (episodes, 2)."""
    try:
        pairs = [
            (each["zero_shot"][metric], each["few_shot"][metric]) for each in found["episodes"]
        ]
    except (KeyError, TypeError):
        raise DataError(
            f"run {record.id} ({record.label}) has few-shot episodes without {metric}; choose "
            "another metric."
        ) from None
    return np.array(pairs, np.float64).reshape(len(pairs), 2)


def _row(series: Series, shots: int, rung: int, fid: float, runs: Sequence[Array]) -> FewShotRow:
    counts = sorted({len(run) for run in runs})
    if len(counts) > 1 or not counts[0]:
        raise DataError(
            f"{series.name} on rung {rung} has {' and '.join(map(str, counts))} episodes of "
            f"{shots} shots in different seeds; only equal episodes can be averaged."
        )
    zero, few = np.mean(runs, axis=0).T
    relative = few / zero - 1 if (zero > 0).all() else None
    return FewShotRow(
        series,
        shots,
        rung,
        fid,
        counts[0],
        len(runs),
        t_estimate(zero.tolist()),
        t_estimate(few.tolist()),
        t_estimate((few - zero).tolist()),
        None if relative is None else t_estimate(relative.tolist()),
    )
