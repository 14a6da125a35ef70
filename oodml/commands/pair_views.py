"""The views of `oodml table` that set methods against each other, or rungs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oodml.commands.tables import Table
from oodml.commands.views import OVER_SEEDS, View, ends_of, in_brackets, triples

if TYPE_CHECKING:
    from oodml.eval.statistics.comparisons import Comparison, Crossing, RankAgreement
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.splits.ladder import Ladder


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
                    [[c.before, c.after, c.fid, f"{c.low:.4g} and {c.high:.4g}"] for c in crossed],
                ),
            )
        )
    return View(
        tables,
        Table(
            ["first", "second", "verdict", *triples(["difference"]), "p", "p_holm", "rungs",
             "seeds", "left_out", "crossings"],
            [
                [c.first, c.second, c.verdict, *ends_of([c.difference]), c.p, c.p_holm, c.rungs,
                 c.seeds, c.left_out, _crossings_of(c, crossed)]
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
            OVER_SEEDS,
        ],
    )  # fmt: skip


def _comparison(each: Comparison) -> list[Any]:
    return [
        each.verdict,
        f"{each.first}, {each.second}",
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


def ranks_view(rows: Sequence[SummaryRow], ladder: Ladder | None, metric: str) -> View:
    """The rank of every method on every rung, and whether the order holds."""
    from oodml.eval.statistics.comparisons import rank_agreement, ranks, score_ranks
    from oodml.eval.statistics.curves import rung_fids
    from oodml.eval.statistics.scores import score_methods

    fids, found = rung_fids(rows), ranks(rows)
    agreements = rank_agreement(rows)
    methods = sorted(
        {row.method for row in rows},
        key=lambda m: ([found[rung].get(m, 1e9) for rung in fids], m),
    )
    by_score = score_ranks(score_methods(rows, ladder))
    shown = [
        [m, *(_rank(found[rung].get(m)) for rung in fids), _rank(by_score.get(m))] for m in methods
    ]
    taus = [
        [f"{a.rung} and {a.other}", str(a.methods), _chance(a.tau), _chance(a.p)]
        for a in agreements
    ]
    return View(
        [
            ("", Table(["method", *(f"FID {fid:.1f}" for fid in fids.values()), "AGS"], shown)),
            ("order on two rungs", Table(["rungs", "methods", "Kendall's tau", "p"], taus)),
        ],
        _long_ranks(fids, found, agreements),
        [
            f"rank by mean {metric}, and by AGS where a method has it: 1 is the highest, equal "
            "means share theirs. Ranks do not say that methods are separated; see --view "
            "comparisons.",
            "tau-b is 1 for the same order of the methods, -1 for the opposite; p tests it against "
            "no association.",
        ],
    )


def _long_ranks(
    fids: Mapping[int, float],
    found: Mapping[int, Mapping[str, float]],
    agreements: Iterable[RankAgreement],
) -> Table:
    """One row per rung and method, with the rung's agreement with the easiest."""
    easiest = {each.other: each for each in agreements if each.rung == min(fids)}
    return Table(
        ["method", "rung", "fid", "rank", "methods", "tau_with_easiest", "p"],
        [
            [method, rung, fids[rung], rank, len(own), *_tau(easiest.get(rung))]
            for rung, own in found.items()
            for method, rank in sorted(own.items(), key=lambda item: (item[1], item[0]))
        ],
    )


def _chance(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.1g}"


def _rank(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _tau(agreement: RankAgreement | None) -> list[float | None]:
    return [None, None] if agreement is None else [agreement.tau, agreement.p]
