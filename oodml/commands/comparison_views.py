"""The views of `oodml table` in which lines are compared: deviation from a mean, pairs, ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oodml.commands.tables import Table
from oodml.commands.views import (
    BOOTSTRAP,
    SERIES,
    View,
    in_brackets,
    parts,
    with_end_names,
    with_ends,
)

if TYPE_CHECKING:
    from oodml.eval.statistics.comparisons import Comparison, Crossing, Deviation, RankAgreement
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.eval.statistics.intervals import Estimate
    from oodml.eval.statistics.series import Series
    from oodml.splits.ladder import Ladder

# Of the orders of fewer methods not even equal ones reach p = 0.05 by Kendall's tau.
FEWEST_RANKED = 5
# What is compared, by the choice of --by.
_COMPARED = {
    None: "methods",
    "method": "methods on the same backbone",
    "backbone": "backbones with the same method",
}


def deviation_view(
    rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str, by: str | None = None
) -> View:
    """Relative deviation of every method from the mean of the methods."""
    from oodml.eval.statistics.comparisons import relative_deviation

    return deviations_view(relative_deviation(rows, by=by), metric, by)


def deviations_view(deviations: Sequence[Deviation], metric: str, by: str | None = None) -> View:
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
                [*parts(d.series), d.rung, d.fid, *with_ends([d.deviation]), d.in_mean]
                for d in deviations
            ],
        ),
        [
            f"({metric} - m) / m, where m is the mean of the {_COMPARED[by]}; the line is fitted "
            "in FID.",
            *([f"not in the mean, for lack of rungs: {', '.join(apart)}."] if apart else []),
            f"95% intervals: {BOOTSTRAP}. None for a single seed.",
        ],
    )


def comparisons_view(
    rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str, by: str | None = None
) -> View:
    """Every two methods: their difference, whether runs can tell, and where they cross."""
    from oodml.eval.statistics.comparisons import compare_methods, crossings

    compared, crossed = compare_methods(rows, by), crossings(rows, by)
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
                [*parts(c.first), *parts(c.second), c.verdict, *with_ends([c.difference]), c.p,
                 c.p_holm, c.rungs, c.seeds, c.left_out, _crossings_of(c, crossed)]
                for c in compared
            ],
        ),
        [
            f"difference in {metric}, paired by rung and seed; p of Wilcoxon's signed-rank test, "
            f"corrected over all pairs of {_COMPARED[by]} (Holm). One is called above another only "
            "where that p is below 0.05 and the interval excludes zero.",
            "a crossing is stated only between rungs on which the paired difference is separated "
            "with opposite signs (t-intervals, Bonferroni over rungs)."
            + ("" if crossed else " None is."),
            "95% intervals: Student's t over the seeds' own mean differences; none for one seed.",
        ],
    )  # fmt: skip


def ranks_view(
    rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str, by: str | None = None
) -> View:
    """The rank of every method on every rung, and whether the order holds."""
    from oodml.eval.statistics.series import grouped

    tables, long = [], []
    for group, own in grouped(rows, by).items():
        ranked = _ranks(own, ladder)
        tables += [(", ".join(filter(None, (group, title))), table) for title, table in ranked[0]]
        long += ranked[1]
    return View(
        tables,
        Table([*SERIES, "rung", "fid", "rank", "methods", "tau_with_easiest", "p"], long),
        [
            f"rank by mean {metric}, and by AGS where a method has it: 1 is the highest, equal "
            "means share theirs. Ranks do not say that methods are separated; see --view "
            "comparisons.",
            "tau-b is 1 for the same order of the methods, -1 for the opposite; p tests it against "
            "no association."
            if any("Kendall's tau" in table.columns for _, table in tables)
            else "Kendall's tau between two rungs is not printed: with fewer than "
            f"{FEWEST_RANKED} methods no order reaches p = 0.05.",
        ],
    )


def _ranks(
    rows: Sequence[SummaryRow], ladder: Ladder | None
) -> tuple[list[tuple[str, Table]], list[list[Any]]]:
    """The titled tables of lines that are ranked together, and the rows of the long table."""
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
    return tables, _long_ranks(fids, found, agreements)


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
) -> list[list[Any]]:
    """One row per rung and line, with the rung's agreement with the easiest."""
    easiest = {each.other: each for each in agreements if each.rung == min(fids)}
    return [
        [*parts(series), rung, fids[rung], rank, len(own), *_tau(easiest.get(rung))]
        for rung, own in found.items()
        for series, rank in sorted(own.items(), key=lambda item: (item[1], item[0]))
    ]


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
