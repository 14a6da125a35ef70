"""The report's numbers: every cell of the curves and the runs behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from oodml.errors import DataError, unknown_name
from oodml.eval.figures.method_styles import line_style
from oodml.eval.report.colors import on_dark
from oodml.eval.report.pairs import pairs_content
from oodml.eval.statistics.scores import score_methods, summarize
from oodml.eval.statistics.trend import method_trends

if TYPE_CHECKING:
    from oodml.eval.statistics.scores import SummaryRow
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

# How many queries there were is no score of a method.
_COUNTS = ("queries", "queries_left_out", "queries_tied")


def metrics_of(records: Sequence[RunRecord], metric: str) -> list[str]:
    """The metrics that all runs have, `metric` among them; `UsageError` or `DataError` if not."""
    everywhere = set.intersection(*(set(record.metrics) for record in records)) - set(_COUNTS)
    if metric in everywhere:
        return sorted(everywhere, key=_natural)
    lacking = [record.id for record in records if metric not in record.metrics]
    if metric in _COUNTS or len(lacking) == len(records):
        raise unknown_name("metric", metric, everywhere)
    raise DataError(
        f"{len(lacking)} of {len(records)} runs have no {metric}: {', '.join(lacking[:5])}. "
        f"All of them have: {', '.join(sorted(everywhere, key=_natural)) or 'none'}."
    )


def _natural(metric: str) -> tuple[str, int]:
    """recall_at_8 before recall_at_10."""
    stem, _, cutoff = metric.rpartition("_")
    return (stem, int(cutoff)) if cutoff.isdigit() else (metric, 0)


def method_styles(methods: Sequence[str]) -> list[dict[str, str]]:
    """Name, colours on a light and a dark page, marker and dashes of every method."""
    styles = {method: line_style(method) for method in methods}
    return [
        {
            "name": method,
            "light": style.color,
            "dark": on_dark(style.color),
            "marker": str(style.marker),
            "dashes": str(style.dashes),
        }
        for method, style in styles.items()
    ]


def curves(
    records: Sequence[RunRecord],
    ladder: Ladder,
    metrics: Sequence[str],
    methods: Sequence[str],
    run_numbers: dict[str, int],
) -> dict[str, Any]:
    """Cells (method, rung, runs) and per metric the mean and interval of each.

    `values[metric][i]` is `[mean, low, high]` of `cells[i]`; `scores[metric]` the aggregated
    scores by method, each with what is `lost` from the easiest to the hardest rung; `pairs[metric]`
    the methods two at a time. Runs are numbers into the report's list of runs.
    """
    number = {method: index for index, method in enumerate(methods)}
    runs = {(r.label, r.spec.data.split, r.spec.seed): run_numbers[r.id] for r in records}
    tables = {metric: _rows(records, ladder, metric) for metric in metrics}
    first = tables[metrics[0]]
    return {
        "cells": [
            {
                "method": number[row.method],
                "rung": row.rung,
                "runs": [runs[row.method, row.split, seed] for seed in row.seeds],
            }
            for row in first
        ],
        "values": {
            metric: [[row.mean, row.low, row.high] for row in rows]
            for metric, rows in tables.items()
        },
        "scores": {metric: _scores(rows, ladder, number) for metric, rows in tables.items()},
        "pairs": {metric: pairs_content(rows, number) for metric, rows in tables.items()},
    }


def _rows(records: Sequence[RunRecord], ladder: Ladder, metric: str) -> list[SummaryRow]:
    for record in records:
        if not math.isfinite(record.metrics[metric]):
            raise DataError(f"{metric} of run {record.id} is {record.metrics[metric]}.")
    return summarize(records, ladder, metric)


def _scores(
    rows: Sequence[SummaryRow], ladder: Ladder, number: dict[str, int]
) -> list[dict[str, Any]]:
    trends = method_trends(rows, ladder)
    lost = {trend.method: trend.lost and astuple(trend.lost) for trend in trends}
    return [
        {
            "method": number[score.method],
            "n": score.n,
            "mean": score.mean,
            "low": score.low,
            "high": score.high,
            "missing": [list(pair) for pair in score.missing],
            "lost": lost[score.method],
        }
        for score in score_methods(rows, ladder)
    ]
