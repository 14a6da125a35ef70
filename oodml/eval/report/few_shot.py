"""Few-shot results for the report: zero-shot and adapted, on the same queries, by episode."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from oodml.errors import DataError
from oodml.eval.summary import t_interval

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder
    from oodml.store import RunRecord

Episode = dict[str, dict[str, float]]


def few_shot_content(
    records: Sequence[RunRecord],
    ladder: Ladder,
    methods: Sequence[str],
    run_numbers: dict[str, int],
) -> dict[str, Any] | None:
    """Cells (method, rung, shots, runs) with `zero`, `few`, `gain` and `relative` per metric.

    Each is `[mean, low, high]` over episodes, every episode first averaged over the seeds;
    `relative` is the gain as a part of the zero-shot value, None where that is 0. None if no run
    was adapted. Raises `DataError` if the runs of a cell differ in their number of episodes.
    """
    number = {method: index for index, method in enumerate(methods)}
    cells: dict[tuple[int, int, int], list[RunRecord]] = defaultdict(list)
    for record in records:
        rung = ladder.rung_of(record.spec.split)
        for shots in _few_shot(record) if rung is not None else ():
            cells[number[record.label], rung or 0, int(shots)].append(record)
    if not cells:
        return None
    return {
        "shots": sorted({shots for _, _, shots in cells}),
        "metrics": _metrics(records),
        "cells": [
            {
                "method": method,
                "rung": rung,
                "shots": shots,
                "runs": [run_numbers[record.id] for record in own],
                **_cell(own, shots),
            }
            for (method, rung, shots), own in sorted(cells.items())
        ],
    }


def _few_shot(record: RunRecord) -> dict[str, Any]:
    return getattr(record, "few_shot", None) or {}


def _cell(records: Sequence[RunRecord], shots: int) -> dict[str, Any]:
    entries = [_few_shot(record)[str(shots)] for record in records]
    counts = [len(entry["episodes"]) for entry in entries]
    if min(counts) != max(counts) or not counts[0]:
        ids = ", ".join(record.id for record in records)
        raise DataError(
            f"runs {ids} have {min(counts)} to {max(counts)} episodes of {shots} shots."
        )
    episodes = list(zip(*(entry["episodes"] for entry in entries), strict=True))
    shared = [name for name in _metrics(records) if all(name in e["few_shot"] for e in episodes[0])]
    return {
        "episodes": counts[0],
        "left_out": [entry.get("left_out", 0) for entry in entries],
        "values": {name: _intervals(episodes, name) for name in shared},
    }


def _intervals(episodes: Sequence[tuple[Episode, ...]], name: str) -> dict[str, Any]:
    zero = [_mean(seeds, "zero_shot", name) for seeds in episodes]
    few = [_mean(seeds, "few_shot", name) for seeds in episodes]
    gain = [after - before for before, after in zip(zero, few, strict=True)]
    relative = [part / whole for part, whole in zip(gain, zero, strict=True) if whole > 0]
    return {
        "zero": t_interval(zero),
        "few": t_interval(few),
        "gain": t_interval(gain),
        "relative": t_interval(relative) if len(relative) == len(zero) else None,
    }


def _mean(seeds: Sequence[Episode], side: str, name: str) -> float:
    return sum(episode[side][name] for episode in seeds) / len(seeds)


def _metrics(records: Sequence[RunRecord]) -> list[str]:
    """The metrics of all episodes, counts left out."""
    found: list[set[str]] = [
        set(episode["few_shot"]) & set(episode["zero_shot"])
        for record in records
        for entry in _few_shot(record).values()
        for episode in entry["episodes"]
    ]
    names = set.intersection(*found) if found else set()
    return sorted(name for name in names if not name.startswith("queries"))
