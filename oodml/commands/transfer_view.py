"""`oodml table --view transfer`: what the shift costs, per method and per rung."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from oodml.commands.tables import Table
from oodml.commands.views import SERIES, View, with_end_names, with_ends

if TYPE_CHECKING:
    from oodml.eval.statistics.intervals import Estimate
    from oodml.eval.statistics.transfer import MethodTransfer, NullCost, TransferRow

_VALUES = (
    "frozen", "shifted", "matched", "shift_cost", "gain", "matched_gain", "retained_gain",
)  # fmt: skip
_MORE = ("difficulty", "fall", "cost_rise")


def transfer_view(found: Sequence[MethodTransfer], metric: str) -> View:
    """A table of the methods, then one of every method's rungs."""
    from oodml.eval.statistics.transfer_findings import division, finding

    ranked = sorted(found, key=lambda each: (-_last_shifted(each), each.series))
    return View(
        [("", _methods(ranked)), *((each.series.name, _rungs(each)) for each in ranked)],
        _long(found),
        [finding(found), *filter(None, [division(found, metric)]), *_notes(found, metric)],
    )


def _last_shifted(each: MethodTransfer) -> float:
    last = each.rows[-1].shifted
    return -1.0 if last is None else last.value


def _methods(found: Sequence[MethodTransfer]) -> Table:
    rows = []
    for each in found:
        last = each.rows[-1]
        parts = map(plus_minus, (last.difficulty, last.cost_rise))
        row = [each.series.name, _value(last.fall), *parts, _value(each.area), _break_even(each)]
        rows.append(row)
    return Table(["method", "fall", "difficulty", "shift", "area", "break-even FID"], rows)


def _rungs(each: MethodTransfer) -> Table:
    has_null = any(row.null for row in each.rows)
    null = ["null of cost"] if has_null else []
    return Table(
        ["FID", "frozen", "shifted", "matched", "shift cost", *null, "gain", "retained"],
        [
            [
                f"{row.fid:.1f}",
                *(_value(side) for side in (row.frozen, row.shifted, row.matched)),
                plus_minus(row.shift_cost, signed=True),
                *([_null(row.null)] if has_null else []),
                plus_minus(row.gain, signed=True),
                _retained(row.retained_gain),
            ]
            for row in each.rows
        ],
    )


def _long(found: Sequence[MethodTransfer]) -> Table:
    """One row a method and rung; what is said of a whole method stands in each of its rows."""
    columns = [
        *SERIES, "rung", "fid", "excess", *with_end_names(_VALUES), *with_end_names(_MORE),
        "null_cost", "null_low", "null_high", "null_draws", "told_apart", "seeds", "left_out",
        *with_end_names(["cost_area"]), "break_even", *with_end_names(["break_even_fid"]),
        *with_end_names(["break_even_excess"]),
    ]  # fmt: skip
    return Table(columns, [_long_row(each, row) for each in found for row in each.rows])


def _long_row(each: MethodTransfer, row: TransferRow) -> list[Any]:
    null, met = row.null, each.break_even
    excesses = each.excesses
    unknown = (None, None, None)
    return [
        each.series.method,
        each.series.backbone,
        row.rung,
        row.fid,
        row.excess,
        *with_ends(getattr(row, name) for name in (*_VALUES, *_MORE)),
        *((null.mean.value, null.low, null.high, len(null.costs)) if null else (*unknown, 0)),
        null.told_apart(row.shift_cost) if null and row.shift_cost else None,
        len(each.seeds),
        each.left_out,
        *with_ends([each.area]),
        met.kind if met else None,
        *(met.on(each.fids) if met else unknown),
        *(met.on(excesses) if met and excesses else unknown),
    ]


def _notes(found: Sequence[MethodTransfer], metric: str) -> list[str]:
    null = any(row.null for each in found for row in each.rows)
    return [
        f"{metric} on halves of each rung's test classes, trained on equally many classes: matched "
        "on the other half's, shifted on the rung's training classes; frozen is the untrained "
        "network.",
        "shift cost = matched - shifted; gain = shifted - frozen; retained = gain / (matched - "
        "frozen), - where the interval of matched - frozen reaches 0.",
        "fall of shifted from the first to the last rung = difficulty (the fall of matched) + shift"
        " (the rise of the shift cost); area: under the shift cost, FID scaled to [0, 1].",
        "break-even: the FID at which the gain falls to 0, straight between rungs; its interval "
        "ends where the gain's own excludes 0, > or < where that is beyond the ladder.",
        _intervals(found),
        *(
            [
                "null of cost: between which a random split of the rung's classes, without "
                "shift, lies with 95% probability (one number: a single such split). A cost "
                "outside is told apart from no shift."
            ]
            if null
            else []
        ),
        *(
            f"left out of {each.series.name}: {each.left_out} runs of seeds that lack a run."
            for each in found
            if each.left_out
        ),
    ]


def _intervals(found: Sequence[MethodTransfer]) -> str:
    counts = sorted({len(each.seeds) for each in found})
    if counts == [1]:
        return "one seed, so no intervals; two or more give them."
    seeds = "-".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    return (
        f"95% intervals over {seeds} seeds, paired by seed: Student's t, of retained Fieller's; "
        "those of all numbers are in --format csv and json."
    )


def _value(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.3f}"


def plus_minus(estimate: Estimate | None, *, signed: bool = False) -> str:
    """`0.034 ±0.012`; the value alone where there is no interval, `-` for a gap."""
    if estimate is None:
        return "-"
    value = f"{estimate.value:+.3f}" if signed else f"{estimate.value:.3f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ±{(estimate.high - estimate.low) / 2:.3f}"


def _retained(estimate: Estimate | None) -> str:
    """`26% [-3, 45]`."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "-"
    return f"{estimate.value:.0%} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def _null(null: NullCost | None) -> str:
    if null is None:
        return "-"
    if null.low is None or null.high is None:
        return f"{null.mean.value:.3f}"
    return f"{null.low:.3f} to {null.high:.3f}"


def _break_even(each: MethodTransfer) -> str:
    """`190 [150, 231]`; an end, or the value, before or beyond the ladder as `<43` or `>588`."""
    met = each.break_even
    if met is None:
        return "-"
    before, beyond = f"<{each.fids[0]:.0f}", f">{each.fids[-1]:.0f}"
    value, low, high = met.on(each.fids)
    shown = {"within": f"{value or 0:.0f}", "before": before, "beyond": beyond}[met.kind]
    if len(each.seeds) == 1:
        return shown
    ends = [
        before if low is None else f"{low:.0f}",
        beyond if high is None else f"{high:.0f}",
    ]
    return f"{shown} [{', '.join(ends)}]"
