"""Two methods at a time, for the report: what the runs can tell apart, and where curves cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from oodml.eval.statistics.comparisons import compare_methods
from oodml.eval.statistics.crossing import crossings
from oodml.eval.statistics.scores import SummaryRow


def pairs_content(rows: Sequence[SummaryRow], number: Mapping[str, int]) -> dict[str, Any]:
    """Every two methods of `compared`, and the `crossings` that their intervals allow to state.

    Methods are given by their `number`; a difference is `[mean, low, high]`, of `first` minus
    `second`.
    """
    return {
        "compared": [
            {
                "first": number[each.first],
                "second": number[each.second],
                "difference": astuple(each.difference),
                "p": each.p_holm,
                "rungs": each.rungs,
                "seeds": each.seeds,
                "left_out": each.left_out,
                "verdict": each.verdict,
            }
            for each in compare_methods(rows)
        ],
        "crossings": [
            {
                "before": number[each.before],
                "after": number[each.after],
                "fid": each.fid,
                "low": each.low,
                "high": each.high,
            }
            for each in crossings(rows)
        ],
    }
