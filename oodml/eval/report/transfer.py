"""What the shift costs, for the report: every method's values on halves, and what they say."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oodml.errors import DataError
from oodml.eval.statistics.comparable import reference_runs
from oodml.eval.statistics.series import Series, series_of
from oodml.eval.statistics.transfer import MethodTransfer, NullCost, TransferRow, transfer
from oodml.eval.statistics.transfer_findings import division, finding
from oodml.runs.networks import network_of

if TYPE_CHECKING:
    from oodml.eval.statistics.intervals import Estimate
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

_SIDES = ("frozen", "shifted", "matched", "null")
_VALUES = (
    "frozen", "shifted", "matched", "shift_cost", "gain", "matched_gain", "retained_gain",
    "difficulty", "fall", "cost_rise",
)  # fmt: skip


def references_on(records: Sequence[RunRecord], ladder: Ladder) -> list[RunRecord]:
    """The finished runs of matched references on the ladder's rungs."""
    own = [record for record in records if record.spec.is_reference and record.status == "done"]
    return [record for record in own if ladder.rung_of(record.spec.data.split) is not None]


def lines_of(records: Sequence[RunRecord], references: Sequence[RunRecord]) -> dict[str, Series]:
    """The line of every run by its id, as the plain `records` name it; references have theirs."""
    series = series_of(record.spec for record in records)
    every = series_of([record.spec.plain for record in [*records, *references]])
    plain = {every[record.id]: series[record.id] for record in records}
    for record in references:
        own = every[record.spec.plain.id]
        series[record.id] = plain.get(own, own)
    return series


def transfer_content(
    references: Sequence[RunRecord],
    ladder: Ladder,
    metrics: Sequence[str],
    series: Mapping[str, Series],
    run_numbers: Mapping[str, int],
) -> dict[str, Any] | None:
    """Methods with the runs behind each rung, and per metric the `finding` and all values.

    `values[metric].methods[i]` belongs to `methods[i]`; its `rows` to the method's `rungs`, each
    value of a row `[value, low, high]`. `break_even` holds its kind and `[place, pays to, costs
    from]` along FID and excess FID. Of `metrics` those are taken that all references have. None
    without a complete seed of any method.
    """
    shared = [name for name in metrics if all(name in each.metrics for each in references)]
    _check_finite(references, shared)
    lines = {own: series[record.id] for record, _, own in reference_runs(references, ladder)}
    tables = {
        metric: [
            replace(each, series=lines[each.series])
            for each in transfer(references, ladder, metric)
        ]
        for metric in shared
    }
    if not shared or not tables[shared[0]]:
        return None
    number = {line: place for place, line in enumerate(sorted(set(series.values())))}
    runs = _runs(references, ladder, series, run_numbers)
    return {
        "metrics": shared,
        "methods": [
            {
                "method": number[each.series],
                "seeds": list(each.seeds),
                "left_out": each.left_out,
                "rungs": [row.rung for row in each.rows],
                "runs": [_runs_of(each, row.rung, runs) for row in each.rows],
            }
            for each in tables[shared[0]]
        ],
        "values": {
            metric: {
                "finding": finding(found),
                "division": division(found, metric),
                "methods": [_method(each) for each in found],
            }
            for metric, found in tables.items()
        },
    }


def _check_finite(records: Sequence[RunRecord], metrics: Sequence[str]) -> None:
    for record in records:
        for metric in metrics:
            if not math.isfinite(record.metrics[metric]):
                raise DataError(f"{metric} of run {record.id} is {record.metrics[metric]}.")


_Runs = dict[tuple[Series, int, str], list[tuple[int, int]]]
_Weights = tuple[str, str, str]


def _runs(
    references: Sequence[RunRecord],
    ladder: Ladder,
    series: Mapping[str, Series],
    run_numbers: Mapping[str, int],
) -> _Runs:
    """Seed and number of the runs of every line, rung and side; of random splits their draw."""
    runs: _Runs = defaultdict(list)
    frozen: dict[tuple[_Weights, int], list[tuple[int, int]]] = defaultdict(list)
    networks: dict[tuple[Series, int], _Weights] = {}
    for record in references:
        data, line = record.spec.data, series[record.id]
        rung, run = ladder.rung_of(data.split) or 0, run_numbers[record.id]
        # Whole networks are trained in another precision than features are extracted in.
        network = network_of(record.spec.model)[:3]
        if data.trained_on == "nothing":
            frozen[network, rung].append((record.spec.seed, run))
        elif data.null_draw:
            runs[line, rung, "null"].append((data.null_draw, run))
        else:
            runs[line, rung, data.trained_on].append((record.spec.seed, run))
            networks[line, rung] = network
    for (line, rung), network in networks.items():
        runs[line, rung, "frozen"] = frozen[network, rung]
    return runs


def _runs_of(each: MethodTransfer, rung: int, runs: _Runs) -> dict[str, list[int]]:
    """The numbers of the runs behind a method's values on a rung, by side."""
    own = {side: sorted(runs.get((each.series, rung, side), ())) for side in _SIDES}
    return {
        side: [run for seed, run in found if side == "null" or seed in each.seeds]
        for side, found in own.items()
        if found
    }


def _method(each: MethodTransfer) -> dict[str, Any]:
    met, excesses = each.break_even, each.excesses
    return {
        "rows": [_row(row) for row in each.rows],
        "area": _ends(each.area),
        "break_even": met
        and {
            "kind": met.kind,
            "crossings": met.crossings,
            "fid": met.on(each.fids),
            "excess": met.on(excesses) if excesses else None,
        },
    }


def _row(row: TransferRow) -> dict[str, Any]:
    values = {name: _ends(getattr(row, name)) for name in _VALUES}
    return {**values, "null": row.null and _null(row.null, row.shift_cost)}


def _null(null: NullCost, cost: Estimate | None) -> dict[str, Any]:
    return {
        "mean": null.mean.value,
        "low": null.low,
        "high": null.high,
        "draws": len(null.costs),
        "told_apart": null.told_apart(cost) if cost else None,
    }


def _ends(estimate: Estimate | None) -> tuple[float, float | None, float | None] | None:
    """The value, and the ends of its interval to six digits."""
    if estimate is None:
        return None
    return estimate.value, _short(estimate.low), _short(estimate.high)


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
