"""The views of `oodml table` and `analyze`: what runs say, as tables with their definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oodml.commands.tables import Table

if TYPE_CHECKING:
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.eval.statistics.few_shot import FewShotRow
    from oodml.eval.statistics.intervals import Estimate
    from oodml.eval.statistics.scores import MethodScore
    from oodml.eval.statistics.series import Series
    from oodml.splits.ladder import Ladder

# The columns that name a line in long tables.
SERIES = ("method", "backbone")
BOOTSTRAP = "bootstrap over seeds with the rungs kept, standard error times Student's t"


@dataclass(frozen=True)
class View:
    """Titled tables for people, one long table for programs, and notes that define the numbers."""

    tables: list[tuple[str, Table]]
    long: Table
    notes: list[str] = field(default_factory=list)


def curves_view(
    rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str, fids: Sequence[float]
) -> View:
    """A method per row, best aggregated score first, and a rung per column."""
    from oodml.eval.statistics.scores import score_methods

    scores = score_methods(rows, ladder)
    cells = {(row.series, row.rung): row for row in rows}
    shown: list[list[Any]] = []
    for score in sorted(scores, key=lambda s: -(s.mean if s.mean is not None else -1.0)):
        own = [cells.get((score.series, rung)) for rung in range(len(fids))]
        counts = sorted({row.n for row in own if row is not None})
        seeds = "-".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]]))
        shown.append([score.series.name, *map(_interval, own), _interval(score), seeds])
    columns = ["rung", "split", "fid", "n", "mean", "low", "high"]
    return View(
        [("", Table(["method", *(f"FID {fid:.1f}" for fid in fids), "AGS", "seeds"], shown))],
        Table(
            [*SERIES, *columns],
            [[*parts(row.series), *(getattr(row, name) for name in columns)] for row in rows],
        ),
        [
            f"{metric} on each rung's test classes, mean ±95% t-interval over seeds; no interval "
            "for a single seed.",
            f"AGS: trapezoid area under {metric} against FID, FID scaled to [0, 1] over the rungs.",
            *_gap_notes(scores),
        ],
    )


def scores_view(rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str) -> View:
    """AGS, slope against FID and loss from the easiest to the hardest rung, per method."""
    from oodml.eval.statistics.scores import method_trends, score_methods

    scores = score_methods(rows, ladder)
    trends = {trend.series: trend for trend in method_trends(rows, ladder)}
    shown, long = [], []
    for score in sorted(scores, key=lambda s: (s.mean is None, -(s.mean or 0.0), s.series)):
        trend = trends[score.series]
        per_100 = trend.per_100(trend.slope), trend.per_100(trend.line)
        shown.append(
            [
                score.series.name,
                _interval(score),
                *map(in_brackets, per_100),
                in_brackets(trend.lost),
                in_brackets(trend.lost_share, percent=True),
                str(score.n),
            ]
        )
        values = (trend.slope, trend.line, *per_100, trend.lost, trend.lost_share)
        area = score.mean, score.low, score.high
        row = [*parts(score.series), score.n, *area, *with_ends(values), len(score.missing)]
        long.append(row)
    columns = ["method", "AGS", "slope per 100 FID", "by the line fit", "lost", "lost %", "seeds"]
    names = with_end_names(
        ["slope", "slope_line", "slope_per_100", "slope_per_100_line", "lost", "lost_share"]
    )
    return View(
        [("", Table(columns, shown))],
        Table([*SERIES, "n", "ags", "ags_low", "ags_high", *names, "missing"], long),
        [
            f"AGS: trapezoid area under {metric} against FID, FID scaled to [0, 1] over the rungs.",
            "slope: least-squares line of the curve; its first interval is over seeds, that of the "
            "line fit over rungs, and wide where the curve is no line.",
            f"lost: {metric} on the easiest rung minus that on the hardest, and as a share of the "
            "easiest.",
            "95% intervals: Student's t over seeds; none for a single seed.",
            f"95% interval of lost %, a ratio: {BOOTSTRAP}.",
            *_gap_notes(scores),
        ],
    )


def few_shot_view(rows: Sequence[FewShotRow], metric: str) -> View:
    """Few-shot against zero-shot on the same queries."""
    columns = ["method", "shots", "FID", "zero-shot", "few-shot", "gain", "gain %", "episodes"]
    shown: list[list[Any]] = []
    long: list[list[Any]] = []
    for r in rows:
        values = r.zero_shot, r.few_shot, r.gain
        percent = in_brackets(r.relative_gain, percent=True)
        shown.append(
            [
                r.series.name,
                str(r.shots),
                r.fid,
                *map(in_brackets, values),
                percent,
                str(r.episodes),
            ]
        )
        ends = with_ends([*values, r.relative_gain])
        counts = r.shots, r.rung, r.fid, r.episodes, r.seeds
        long.append([*parts(r.series), *counts, *ends, r.left_out])
    names = with_end_names(["zero_shot", "few_shot", "gain", "relative_gain"])
    return View(
        [("", Table(columns, shown))],
        Table([*SERIES, "shots", "rung", "fid", "episodes", "seeds", *names, "left_out"], long),
        [
            f"{metric} on the query images of each episode before and after adaptation to its "
            "support images; gain per episode, averaged over seeds.",
            "95% t-intervals over episodes.",
            *_classes_left_out(rows),
        ],
    )


def _classes_left_out(rows: Sequence[FewShotRow]) -> list[str]:
    """Which cells of the table are not of all test classes."""
    found = sorted({(r.shots, r.rung, r.left_out) for r in rows if r.left_out})
    cells = [f"{left} for {shots} shots on rung {rung}" for shots, rung, left in found]
    return [f"test classes left out, being too small: {', '.join(cells)}."] if cells else []


def in_brackets(estimate: Estimate | None, *, percent: bool = False) -> str:
    """`0.012 [0.004, 0.020]`, or only the value where there is no interval; `-` for a gap."""
    if estimate is None:
        return "-"
    ends = [end for end in (estimate.low, estimate.high) if end is not None]
    value, *rest = [
        f"{100 * number:.1f}%" if percent else f"{number:.4f}" for number in (estimate.value, *ends)
    ]
    return f"{value} [{', '.join(rest)}]" if rest else value


def _interval(cell: SummaryRow | MethodScore | None) -> str:
    """`0.712 ±0.004`: mean and half-width of the 95% interval; `-` for a gap."""
    if cell is None or cell.mean is None:
        return "-"
    if cell.low is None or cell.high is None:
        return f"{cell.mean:.3f}"
    return f"{cell.mean:.3f} ±{(cell.high - cell.low) / 2:.3f}"


def _gap_notes(scores: Iterable[MethodScore]) -> list[str]:
    """One line per method that lacks runs, naming the first of them."""
    notes = []
    for score in scores:
        if score.missing:
            gaps = ", ".join(f"rung {rung} seed {seed}" for rung, seed in score.missing[:4])
            more = f" and {len(score.missing) - 4} more" if len(score.missing) > 4 else ""
            notes.append(f"missing for {score.series.name}: {gaps}{more}.")
    return notes


def parts(series: Series) -> list[str]:
    return [series.method, series.backbone]


def with_end_names(names: Iterable[str]) -> list[str]:
    """Column names of values with their intervals."""
    return [part for name in names for part in (name, f"{name}_low", f"{name}_high")]


def with_ends(estimates: Iterable[Estimate | None]) -> list[float | None]:
    """Value, low and high of each, one after the other."""
    return [
        part
        for each in estimates
        for part in ([None] * 3 if each is None else [each.value, each.low, each.high])
    ]
