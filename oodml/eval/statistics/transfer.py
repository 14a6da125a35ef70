"""What the shift costs: methods trained on the test side's own classes against the training side's.

Matched and shifted runs are measured on the same halves of a rung's test classes and differ only in
which classes they were trained on (`oodml.splits.reference`), so their difference is the cost of
the shift, and what else is lost along the ladder is the difficulty of its classes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from oodml.eval.statistics.break_even import BreakEven, break_even
from oodml.eval.statistics.comparable import reference_runs
from oodml.eval.statistics.curves import Cells, check_metric
from oodml.eval.statistics.intervals import Array, Estimate, ratio_estimate, t_estimate
from oodml.eval.statistics.scores import aggregated_generalization_score
from oodml.eval.statistics.series import Series
from oodml.runs.networks import network_of

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.runs.spec import RunSpec
    from oodml.splits.ladder import Ladder


@dataclass(frozen=True)
class NullCost:
    """The shift cost on random splits of a rung's classes, where there is no shift: one a draw.

    `mean` has its t-interval over the draws. A single random split lies within `low` and `high`
    with 95% probability (mean +- t x sd x sqrt(1 + 1 / draws)); None for one draw.
    """

    costs: tuple[float, ...]
    mean: Estimate
    sd: float | None
    low: float | None
    high: float | None

    def told_apart(self, cost: Estimate) -> bool | None:
        """Whether a cost lies outside what random splits give; None where that is not known."""
        if self.low is None or self.high is None:
            return None
        return not self.low <= cost.value <= self.high


@dataclass(frozen=True)
class TransferRow:
    """One method on one rung, on the halves of its test classes: means over seeds, 95% t-intervals.

    `shift_cost` is matched - shifted, `gain` shifted - frozen, `matched_gain` matched - frozen,
    `difficulty` matched on rung 0 - matched here, `fall` the same of shifted and `cost_rise` the
    shift cost here less that on rung 0, all paired by seed; so fall = difficulty + cost_rise, and
    gain = matched_gain - shift_cost. `retained_gain` is gain / matched_gain with Fieller's
    interval, None where the interval of the matched gain reaches zero or is none. Others are None
    where a side has no runs. `excess` is FID less its null, None for a rung without one.
    """

    rung: int
    fid: float
    excess: float | None
    frozen: Estimate | None
    shifted: Estimate | None
    matched: Estimate | None
    shift_cost: Estimate | None
    gain: Estimate | None
    matched_gain: Estimate | None
    retained_gain: Estimate | None
    difficulty: Estimate | None
    fall: Estimate | None
    cost_rise: Estimate | None
    null: NullCost | None = None


@dataclass(frozen=True)
class MethodTransfer:
    """One method on one model along the ladder, over the `seeds` that are complete.

    A seed is complete if it has a run of every side on every one of the method's rungs; `left_out`
    counts the matched and shifted runs of other seeds. `area` is the trapezoid area of the shift
    cost under FID scaled to [0, 1], None if the method has not all rungs of the ladder.
    """

    series: Series
    seeds: tuple[int, ...]
    rows: tuple[TransferRow, ...]
    area: Estimate | None
    break_even: BreakEven | None
    left_out: int = 0

    @property
    def fids(self) -> list[float]:
        return [row.fid for row in self.rows]

    @property
    def excesses(self) -> list[float] | None:
        """The excess FID of every rung; None if one has none."""
        known = [row.excess for row in self.rows if row.excess is not None]
        return known if len(known) == len(self.rows) else None


def transfer(
    records: Iterable[RunRecord], ladder: Ladder, metric: str = "recall_at_1"
) -> list[MethodTransfer]:
    """What the shift costs every method that has reference runs with a complete seed, by method.

    Raises `DataError` if reference runs on the ladder cannot be compared (see `check_comparable`)
    or one lacks the metric, `UsageError` if no run has it.
    """
    chosen = reference_runs(records, ladder)
    check_metric(chosen, metric)
    frozen: dict[_Measured, Cells] = defaultdict(lambda: defaultdict(dict))
    sides: dict[Series, dict[str, Cells]] = defaultdict(lambda: defaultdict(_cells))
    draws: dict[Series, dict[int, dict[int, dict[str, float]]]]
    draws = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    measured: dict[Series, RunSpec] = {}
    for record, rung, series in chosen:
        spec, value = record.spec, record.metrics[metric]
        side = spec.data.trained_on
        if spec.data.null_draw:
            draws[series][rung][spec.data.null_draw][side] = value
        elif side == "nothing":
            frozen[_measured(spec)][rung][spec.seed] = value
        else:
            measured[series] = spec
            sides[series][side][rung][spec.seed] = value
    found = []
    for series in sorted(sides):
        untrained = _untrained(measured[series], frozen)
        own = {**sides[series], **({"frozen": untrained} if untrained else {})}
        found.append(_method(series, own, draws[series], ladder))
    return [each for each in found if each.rows]


# The values of a row that are means over seeds.
_ESTIMATES = (
    "frozen", "shifted", "matched", "shift_cost", "gain", "matched_gain", "difficulty", "fall",
    "cost_rise",
)  # fmt: skip
# What tells untrained networks apart: the network, and what is done to its embeddings.
_Measured = tuple[tuple[str, str, str, str], bool, bool]


def _cells() -> Cells:
    return defaultdict(dict)


def _measured(spec: RunSpec) -> _Measured:
    return network_of(spec.model), spec.evaluation.flip, spec.evaluation.rerank


def _untrained(spec: RunSpec, frozen: Mapping[_Measured, Cells]) -> Cells | None:
    """The values of the network that a method starts from.

    Whole networks are trained in float32, whatever the precision of extracted features.
    """
    network, *evaluation = _measured(spec)
    for (other, *same), cells in sorted(frozen.items()):
        whole = spec.model.train == "all" and other[:3] == network[:3]
        if same == evaluation and (whole or other == network):
            return cells
    return None


def _method(
    series: Series,
    sides: Mapping[str, Cells],
    draws: Mapping[int, Mapping[int, Mapping[str, float]]],
    ladder: Ladder,
) -> MethodTransfer:
    rungs, seeds = _complete(sides)
    values = {
        side: np.array([[cells[rung][seed] for rung in rungs] for seed in seeds], np.float64)
        for side, cells in sides.items()
    }
    trained = [own for side, cells in sides.items() if side != "frozen" for own in cells.values()]
    used = len(seeds) * len(rungs) * len(sides.keys() - {"frozen"})
    left_out = sum(map(len, trained)) - used
    if not seeds:
        return MethodTransfer(series, (), (), None, None, left_out)
    columns = _columns(values, 0 in rungs)
    rows = tuple(
        _row(place, rung, columns, ladder, draws.get(rung, {})) for place, rung in enumerate(rungs)
    )
    cost, gain = columns.get("shift_cost"), columns.get("gain")
    whole = len(rungs) == len(ladder.rungs) > 1
    return MethodTransfer(
        series,
        tuple(seeds),
        rows,
        _area([row.fid for row in rows], cost) if whole and cost is not None else None,
        None if gain is None else break_even(gain),
        left_out,
    )


def _complete(sides: Mapping[str, Cells]) -> tuple[list[int], list[int]]:
    """The rungs on which some seed has every side, and the seeds that have them on all of these."""
    rungs = sorted({rung for cells in sides.values() for rung in cells})
    have = {
        rung: set.intersection(*(set(cells.get(rung, {})) for cells in sides.values()))
        for rung in rungs
    }
    kept = [rung for rung in rungs if have[rung]]
    return kept, sorted(set.intersection(*(have[rung] for rung in kept))) if kept else []


def _columns(values: Mapping[str, Array], from_easiest: bool) -> dict[str, Array]:
    """Per name of a row's value its matrix (seeds, rungs), where its sides are there."""
    columns = dict(values)
    for name, one, other in (
        ("shift_cost", "matched", "shifted"),
        ("gain", "shifted", "frozen"),
        ("matched_gain", "matched", "frozen"),
    ):
        if one in values and other in values:
            columns[name] = values[one] - values[other]
    for name, of, sign in (
        ("difficulty", "matched", -1),
        ("fall", "shifted", -1),
        ("cost_rise", "shift_cost", 1),
    ):
        if from_easiest and of in columns:
            columns[name] = sign * (columns[of] - columns[of][:, :1])
    return columns


def _row(
    place: int,
    rung: int,
    columns: Mapping[str, Array],
    ladder: Ladder,
    draws: Mapping[int, Mapping[str, float]],
) -> TransferRow:
    split = ladder.rungs[rung]
    own = {name: matrix[:, place] for name, matrix in columns.items()}
    gains = [own[name] for name in ("gain", "matched_gain") if name in own]

    return TransferRow(
        rung=rung,
        fid=split.fid,
        excess=split.shift.excess if split.shift else None,
        retained_gain=ratio_estimate(*gains) if len(gains) == 2 else None,
        null=_null(draws),
        **{name: t_estimate(own[name].tolist()) if name in own else None for name in _ESTIMATES},
    )


def _null(draws: Mapping[int, Mapping[str, float]]) -> NullCost | None:
    costs = tuple(
        draws[draw]["matched"] - draws[draw]["shifted"]
        for draw in sorted(draws)
        if {"matched", "shifted"} <= draws[draw].keys()
    )
    if not costs:
        return None
    mean, number = t_estimate(costs), len(costs)
    if number == 1:
        return NullCost(costs, mean, None, None, None)
    sd = float(np.std(costs, ddof=1))
    reach = float(stdtrit(number - 1, 0.975)) * sd * math.sqrt(1 + 1 / number)
    return NullCost(costs, mean, sd, mean.value - reach, mean.value + reach)


def _area(fids: Sequence[float], costs: Array) -> Estimate:
    return t_estimate([aggregated_generalization_score(fids, own) for own in costs.tolist()])
