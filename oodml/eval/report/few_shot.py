"""Few-shot results for the report: before and after adaptation, for every method and rung."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from oodml.eval.statistics.few_shot import FewShotRow, few_shot_gains

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder


def few_shot_content(
    records: Sequence[RunRecord],
    ladder: Ladder,
    methods: Sequence[str],
    run_numbers: dict[str, int],
) -> dict[str, Any] | None:
    """Cells (method, rung, shots, episodes, left_out, runs) and per metric their `values`.

    `values[metric][i]` holds `zero`, `few`, `gain` and `relative` of `cells[i]`, each
    `[mean, low, high]`, or None for a relative gain over 0. None if no run was adapted.
    """
    metrics = _metrics(records)
    tables = {metric: few_shot_gains(records, ladder, metric) for metric in metrics}
    if not metrics or not tables[metrics[0]]:
        return None
    rows = tables[metrics[0]]
    runs = _runs(records, ladder, run_numbers)
    return {
        "shots": sorted({row.shots for row in rows}),
        "metrics": metrics,
        "cells": [
            {
                "method": methods.index(row.method),
                "rung": row.rung,
                "shots": row.shots,
                "episodes": row.episodes,
                "left_out": row.left_out,
                "runs": runs[row.method, row.rung, row.shots],
            }
            for row in rows
        ],
        "values": {metric: [_values(row) for row in own] for metric, own in tables.items()},
    }


def _runs(
    records: Sequence[RunRecord], ladder: Ladder, run_numbers: dict[str, int]
) -> dict[tuple[str, int, int], list[int]]:
    """The numbers of the runs behind each method, rung and number of shots, by seed."""
    found: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.spec.seed):
        rung = ladder.rung_of(record.spec.data.split)
        for shots in record.few_shot if rung is not None else ():
            found[record.label, rung or 0, int(shots)].append(run_numbers[record.id])
    return found


def _values(row: FewShotRow) -> dict[str, Any]:
    return {
        "zero": astuple(row.zero_shot),
        "few": astuple(row.few_shot),
        "gain": astuple(row.gain),
        "relative": None if row.relative_gain is None else astuple(row.relative_gain),
    }


def _metrics(records: Sequence[RunRecord]) -> list[str]:
    """The metrics that all episodes have on both sides; counts are no scores."""
    found = [
        set(episode["few_shot"]) & set(episode["zero_shot"])
        for record in records
        for entry in record.few_shot.values()
        for episode in entry["episodes"]
    ]
    names = set.intersection(*found) if found else set[str]()
    return sorted(name for name in names if not name.startswith("queries"))
