"""The views of `oodml table`: what runs say, as tables with their definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from oodml.commands.results import gap_notes, shown_interval
from oodml.commands.tables import Table

if TYPE_CHECKING:
    from oodml.eval.statistics.comparisons import Deviation
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.eval.statistics.few_shot import FewShotRow
    from oodml.eval.statistics.intervals import Estimate
    from oodml.splits.ladder import Ladder

OVER_SEEDS = (
    "95% intervals: bootstrap over seeds with the rungs kept, standard error times Student's t; "
    "none for a single seed."
)


@dataclass(frozen=True)
class View:
    """Titled tables to read, one long table for programs, and what the numbers mean."""

    tables: list[tuple[str, Table]]
    long: Table
    notes: list[str] = field(default_factory=list)


def scores_view(rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str) -> View:
    """AGS, slope against FID and loss from the easiest to the hardest rung, per method."""
    from oodml.eval.statistics.scores import method_trends, score_methods

    scores = score_methods(rows, ladder)
    trends = {trend.method: trend for trend in method_trends(rows, ladder)}
    shown, long = [], []
    for score in sorted(scores, key=lambda s: (s.mean is None, -(s.mean or 0.0), s.method)):
        trend = trends[score.method]
        per_100 = trend.per_100(trend.slope), trend.per_100(trend.line)
        shown.append(
            [
                score.method,
                shown_interval(score),
                *map(in_brackets, per_100),
                in_brackets(trend.lost),
                in_brackets(trend.lost_share, percent=True),
                str(score.n),
            ]
        )
        values = (trend.slope, trend.line, *per_100, trend.lost, trend.lost_share)
        area = score.mean, score.low, score.high
        long.append([score.method, score.n, *area, *ends_of(values), len(score.missing)])
    columns = ["method", "AGS", "slope per 100 FID", "by the line fit", "lost", "lost %", "seeds"]
    names = ("slope", "slope_line", "slope_per_100", "slope_per_100_line", "lost", "lost_share")
    return View(
        [("", Table(columns, shown))],
        Table(["method", "n", "ags", "ags_low", "ags_high", *triples(names), "missing"], long),
        [
            f"AGS: trapezoid area under {metric} against FID, FID scaled to [0, 1] over the rungs.",
            "slope: least-squares line of the curve; its first interval is over seeds, that of the "
            "line fit over rungs, and wide where the curve is no line.",
            f"lost: {metric} on the easiest rung minus that on the hardest, and as a share of the "
            "easiest.",
            OVER_SEEDS,
            *gap_notes(scores),
        ],
    )


def deviation_view(rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str) -> View:
    """Relative deviation of every method from the mean of the methods."""
    from oodml.eval.statistics.comparisons import relative_deviation

    return deviations_view(relative_deviation(rows), metric)


def deviations_view(deviations: Sequence[Deviation], metric: str) -> View:
    """The view of deviations that are measured already."""
    from oodml.eval.statistics.comparisons import deviation_lines

    lines = {line.method: line for line in deviation_lines(deviations)}
    rungs = sorted({(each.rung, each.fid) for each in deviations})
    cells = {(each.method, each.rung): each for each in deviations}
    shown = []
    for method in sorted({each.method for each in deviations}):
        own = [cells.get((method, rung)) for rung, _ in rungs]
        ends = [lines[method].easiest, lines[method].hardest] if method in lines else [None] * 2
        shown.append(
            [
                method,
                *(_percent(d.deviation if d else None) for d in own),
                *(_signed(end) for end in ends),
            ]
        )
    apart = sorted({each.method for each in deviations if not each.in_mean})
    columns = ["method", *(f"FID {fid:.1f}" for _, fid in rungs), "line from", "line to"]
    return View(
        [("", Table(columns, shown))],
        Table(
            ["method", "rung", "fid", "deviation", "low", "high", "in_mean"],
            [[d.method, d.rung, d.fid, *ends_of([d.deviation]), d.in_mean] for d in deviations],
        ),
        [
            f"({metric} - mean of the methods) / mean of the methods; the line is fitted in FID.",
            *([f"not in the mean, for lack of rungs: {', '.join(apart)}."] if apart else []),
            OVER_SEEDS,
        ],
    )


def few_shot_view(rows: Sequence[FewShotRow], metric: str) -> View:
    """Few-shot against zero-shot on the same queries."""
    columns = ["method", "shots", "FID", "zero-shot", "few-shot", "gain", "gain %", "episodes"]
    shown = [
        [r.method, str(r.shots), r.fid, *map(in_brackets, (r.zero_shot, r.few_shot, r.gain)),
         in_brackets(r.relative_gain, percent=True), str(r.episodes)]
        for r in rows
    ]  # fmt: skip
    names = ("zero_shot", "few_shot", "gain", "relative_gain")
    return View(
        [("", Table(columns, shown))],
        Table(
            ["method", "shots", "rung", "fid", "episodes", "seeds", *triples(names), "left_out"],
            [
                [r.method, r.shots, r.rung, r.fid, r.episodes, r.seeds, *ends_of(_estimates(r)),
                 r.left_out]
                for r in rows
            ],
        ),
        [
            f"{metric} on the query images of each episode before and after adaptation to its "
            "support images; gain per episode, averaged over seeds.",
            "95% t-intervals over episodes.",
            *_classes_left_out(rows),
        ],
    )  # fmt: skip


def _classes_left_out(rows: Sequence[FewShotRow]) -> list[str]:
    """Which cells of the table are not of all test classes."""
    found = sorted({(r.shots, r.rung, r.left_out) for r in rows if r.left_out})
    cells = [f"{left} for {shots} shots on rung {rung}" for shots, rung, left in found]
    return [f"test classes left out, being too small: {', '.join(cells)}."] if cells else []


def _estimates(row: FewShotRow) -> list[Estimate | None]:
    return [row.zero_shot, row.few_shot, row.gain, row.relative_gain]


def in_brackets(estimate: Estimate | None, *, percent: bool = False) -> str:
    """`0.012 [0.004, 0.020]`, or only the value where there is no interval; `-` for a gap."""
    if estimate is None:
        return "-"
    ends = [end for end in (estimate.low, estimate.high) if end is not None]
    value, *rest = [
        f"{100 * number:.1f}%" if percent else f"{number:.4f}" for number in (estimate.value, *ends)
    ]
    return f"{value} [{', '.join(rest)}]" if rest else value


def _percent(estimate: Estimate | None) -> str:
    """As `+2.1% ±0.4`."""
    if estimate is None:
        return "-"
    if estimate.high is None:
        return _signed(estimate.value)
    return f"{_signed(estimate.value)} ±{100 * (estimate.high - estimate.value):.1f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}%"


def triples(names: Iterable[str]) -> list[str]:
    """Column names of values with their intervals."""
    return [part for name in names for part in (name, f"{name}_low", f"{name}_high")]


def ends_of(estimates: Iterable[Estimate | None]) -> list[float | None]:
    """Value, low and high of each, one after the other."""
    return [
        part
        for each in estimates
        for part in ([None] * 3 if each is None else [each.value, each.low, each.high])
    ]
