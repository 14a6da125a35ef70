"""The views of `oodml table` and `analyze`: what runs say, as tables with their definitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oodml.commands.tables import Table

if TYPE_CHECKING:
    from oodml.eval.statistics.comparisons import Comparison, Crossing, Deviation, RankAgreement
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.eval.statistics.few_shot import FewShotRow
    from oodml.eval.statistics.intervals import Estimate
    from oodml.eval.statistics.scores import MethodScore
    from oodml.eval.statistics.series import Series
    from oodml.splits.ladder import Ladder

# Of the orders of fewer methods not even equal ones reach p = 0.05 by Kendall's tau.
FEWEST_RANKED = 5
# The columns that name a line in long tables.
SERIES = ("method", "backbone")
_BOOTSTRAP = "bootstrap over seeds with the rungs kept, standard error times Student's t"


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
            [[*_parts(row.series), *(getattr(row, name) for name in columns)] for row in rows],
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
        row = [*_parts(score.series), score.n, *area, *with_ends(values), len(score.missing)]
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
            f"95% interval of lost %, a ratio: {_BOOTSTRAP}.",
            *_gap_notes(scores),
        ],
    )


def deviation_view(rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str) -> View:
    """Relative deviation of every method from the mean of the methods."""
    from oodml.eval.statistics.comparisons import relative_deviation

    return deviations_view(relative_deviation(rows), metric)


def deviations_view(deviations: Sequence[Deviation], metric: str) -> View:
    """The view of deviations that are measured already."""
    from oodml.eval.statistics.comparisons import deviation_lines

    lines = {line.series: line for line in deviation_lines(deviations)}
    rungs = sorted({(each.rung, each.fid) for each in deviations})
    cells = {(each.series, each.rung): each for each in deviations}
    shown = []
    for series in sorted({each.series for each in deviations}):
        own = [cells.get((series, rung)) for rung, _ in rungs]
        ends = [lines[series].easiest, lines[series].hardest] if series in lines else [None] * 2
        shown.append(
            [
                series.name,
                *(_percent(d.deviation if d else None) for d in own),
                *(_signed(end) for end in ends),
            ]
        )
    apart = sorted({each.series.name for each in deviations if not each.in_mean})
    columns = ["method", *(f"FID {fid:.1f}" for _, fid in rungs), "line from", "line to"]
    return View(
        [("", Table(columns, shown))],
        Table(
            [*SERIES, "rung", "fid", "deviation", "low", "high", "in_mean"],
            [
                [*_parts(d.series), d.rung, d.fid, *with_ends([d.deviation]), d.in_mean]
                for d in deviations
            ],
        ),
        [
            f"({metric} - mean of the methods) / mean of the methods; the line is fitted in FID.",
            *([f"not in the mean, for lack of rungs: {', '.join(apart)}."] if apart else []),
            f"95% intervals: {_BOOTSTRAP}. None for a single seed.",
        ],
    )


def comparisons_view(rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str) -> View:
    """Every two methods: their difference, whether runs can tell, and where they cross."""
    from oodml.eval.statistics.comparisons import compare_methods, crossings

    compared, crossed = compare_methods(rows), crossings(rows)
    columns = ["verdict", "methods", "difference", "p (Holm)", "p", "rungs", "seeds", "left out"]
    tables = [("", Table(columns, [_comparison(each) for each in compared]))]
    if crossed:
        tables.append(
            (
                "curves that cross",
                Table(
                    ["above before", "above after", "FID, about", "separated at (95%)"],
                    [
                        [c.before.name, c.after.name, c.fid, f"{c.low:.4g} and {c.high:.4g}"]
                        for c in crossed
                    ],
                ),
            )
        )
    return View(
        tables,
        Table(
            ["first", "first_backbone", "second", "second_backbone", "verdict",
             *with_end_names(["difference"]), "p", "p_holm", "rungs", "seeds", "left_out",
             "crossings"],
            [
                [*_parts(c.first), *_parts(c.second), c.verdict, *with_ends([c.difference]), c.p,
                 c.p_holm, c.rungs, c.seeds, c.left_out, _crossings_of(c, crossed)]
                for c in compared
            ],
        ),
        [
            f"difference in {metric}, paired by rung and seed; p of Wilcoxon's signed-rank test, "
            "corrected over all pairs of methods (Holm). One method is called above another only "
            "where that p is below 0.05 and the interval excludes zero.",
            "a crossing is stated only between rungs on which the paired difference is separated "
            "with opposite signs (t-intervals, Bonferroni over rungs)."
            + ("" if crossed else " None is."),
            "95% intervals: Student's t over the seeds' own mean differences; none for one seed.",
        ],
    )  # fmt: skip


def ranks_view(rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str) -> View:
    """The rank of every method on every rung, and whether the order holds."""
    from oodml.eval.statistics.comparisons import rank_agreement, ranks, score_ranks
    from oodml.eval.statistics.curves import rung_fids
    from oodml.eval.statistics.scores import score_methods

    fids, found = rung_fids(rows), ranks(rows)
    agreements = rank_agreement(rows)
    lines = sorted(
        {row.series for row in rows},
        key=lambda line: ([found[rung].get(line, 1e9) for rung in fids], line),
    )
    by_score = score_ranks(score_methods(rows, ladder))
    shown = [
        [line.name, *(_rank(found[rung].get(line)) for rung in fids), _rank(by_score.get(line))]
        for line in lines
    ]
    taus = [
        [f"{a.rung} and {a.other}", str(a.methods), _chance(a.tau), _chance(a.p)]
        for a in agreements
        if a.methods >= FEWEST_RANKED
    ]
    tables = [("", Table(["method", *(f"FID {fid:.1f}" for fid in fids.values()), "AGS"], shown))]
    if taus:
        columns = ["rungs", "methods", "Kendall's tau", "p"]
        tables.append(("order on two rungs", Table(columns, taus)))
    return View(
        tables,
        _long_ranks(fids, found, agreements),
        [
            f"rank by mean {metric}, and by AGS where a method has it: 1 is the highest, equal "
            "means share theirs. Ranks do not say that methods are separated; see --view "
            "comparisons.",
            "tau-b is 1 for the same order of the methods, -1 for the opposite; p tests it against "
            "no association."
            if taus
            else "Kendall's tau between two rungs is not printed: with fewer than "
            f"{FEWEST_RANKED} methods no order reaches p = 0.05.",
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
        long.append([*_parts(r.series), *counts, *ends, r.left_out])
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


def _comparison(each: Comparison) -> list[Any]:
    return [
        each.verdict,
        f"{each.first.name}, {each.second.name}",
        in_brackets(each.difference),
        _chance(each.p_holm),
        _chance(each.p),
        str(each.rungs),
        str(each.seeds),
        str(each.left_out),
    ]


def _crossings_of(compared: Comparison, crossed: Iterable[Crossing]) -> str:
    names = {compared.first, compared.second}
    own = [each for each in crossed if {each.before, each.after} == names]
    return "; ".join(f"{each.fid:.6g} ({each.low:.6g} to {each.high:.6g})" for each in own)


def _long_ranks(
    fids: Mapping[int, float],
    found: Mapping[int, Mapping[Series, float]],
    agreements: Iterable[RankAgreement],
) -> Table:
    """One row per rung and method, with the rung's agreement with the easiest."""
    easiest = {each.other: each for each in agreements if each.rung == min(fids)}
    return Table(
        [*SERIES, "rung", "fid", "rank", "methods", "tau_with_easiest", "p"],
        [
            [*_parts(series), rung, fids[rung], rank, len(own), *_tau(easiest.get(rung))]
            for rung, own in found.items()
            for series, rank in sorted(own.items(), key=lambda item: (item[1], item[0]))
        ],
    )


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


def _percent(estimate: Estimate | None) -> str:
    """As `+2.1% ±0.4`."""
    if estimate is None:
        return "-"
    if estimate.high is None:
        return _signed(estimate.value)
    return f"{_signed(estimate.value)} ±{100 * (estimate.high - estimate.value):.1f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}%"


def _chance(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.1g}"


def _rank(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _tau(agreement: RankAgreement | None) -> list[float | None]:
    return [None, None] if agreement is None else [agreement.tau, agreement.p]


def _gap_notes(scores: Iterable[MethodScore]) -> list[str]:
    """One line per method that lacks runs, naming the first of them."""
    notes = []
    for score in scores:
        if score.missing:
            gaps = ", ".join(f"rung {rung} seed {seed}" for rung, seed in score.missing[:4])
            more = f" and {len(score.missing) - 4} more" if len(score.missing) > 4 else ""
            notes.append(f"missing for {score.series.name}: {gaps}{more}.")
    return notes


def _parts(series: Series) -> list[str]:
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
