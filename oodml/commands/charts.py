"""The charts of `oodml plot`: each function does what can fail and returns the one that writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oodml.errors import UsageError

if TYPE_CHECKING:
    from oodml.eval.figures.curves import ShiftAxis
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.eval.statistics.published import PublishedStudy
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

Draw = Callable[[Path], None]


def summary_rows(ladder: Ladder, records: Sequence[RunRecord], metric: str) -> list[SummaryRow]:
    """The rows of a summary."""
    from oodml.eval.statistics.curves import summarize

    return summarize(records, ladder, metric)


def curve_chart(
    ladder: Ladder,
    records: Sequence[RunRecord],
    metric: str,
    axis: ShiftAxis,
    rows: Sequence[SummaryRow],
    published: Sequence[SummaryRow],
    words: dict[str, Any],
) -> Draw:
    """The metric against the axis, with published curves."""
    from oodml.eval.figures.curves import plot_curves

    placed = axis.placed(rows)
    return lambda path: plot_curves(placed, path, published=published, **words)


def deviation_chart(rows: Sequence[SummaryRow], words: dict[str, Any]) -> Draw:
    """The relative deviation of rows that are placed on their axis."""
    from oodml.eval.figures.curves import plot_deviation
    from oodml.eval.statistics.comparisons import relative_deviation

    deviations = relative_deviation(rows) if rows else []
    return lambda path: plot_deviation(deviations, path, **words)


def score_chart(
    rows: Sequence[SummaryRow], ladder: Ladder, metric: str, study: PublishedStudy | None
) -> Draw:
    """The aggregated scores, the published ones beside them."""
    from oodml.eval.figures.methods import plot_scores
    from oodml.eval.figures.style import PUBLISHED
    from oodml.eval.statistics.scores import score_methods

    scores = score_methods(rows, ladder)
    if study is not None:
        for score in score_methods(study.rows()):
            scores.append(replace(score, method=score.method + PUBLISHED))
    return lambda path: plot_scores(scores, path, metric=metric)


def few_shot_chart(
    ladder: Ladder,
    records: Sequence[RunRecord],
    metric: str,
    axis: ShiftAxis,
    words: dict[str, Any],
) -> Draw:
    """The gain by adaptation against the axis."""
    from oodml.eval.figures.methods import plot_few_shot
    from oodml.eval.statistics.few_shot import few_shot_gains

    rows = axis.placed(few_shot_gains(records, ladder, metric))
    return lambda path: plot_few_shot(rows, path, **words)


def geometry_chart(
    ladder: Ladder, records: Sequence[RunRecord], metric: str, coefficient: str
) -> Draw:
    """The correlations of geometry and metric."""
    from oodml.eval.figures.methods import plot_geometry
    from oodml.eval.statistics.correlation import correlate_geometry

    found = correlate_geometry(records, ladder, metric)
    return lambda path: plot_geometry(found, path, metric=metric, coefficient=coefficient)


def published_chart(name: str, view: str, x: str) -> Draw:
    """A view of the published study alone."""
    from oodml.eval.figures.curves import plot_curves, plot_deviation, study_axis
    from oodml.eval.figures.methods import plot_scores
    from oodml.eval.statistics.comparisons import relative_deviation
    from oodml.eval.statistics.published import published_study
    from oodml.eval.statistics.scores import score_methods

    study = published_study(name)
    axis = study_axis(study, x)
    rows = axis.placed(study.rows())
    words: dict[str, Any] = {"fid_label": axis.label, "start": axis.start}
    words |= {"start_name": axis.start_name}
    if view == "curves":
        return lambda path: plot_curves([], path, published=rows, **words)
    if view == "deviation":
        deviations = relative_deviation(rows, study.means())
        return lambda path: plot_deviation(deviations, path, **words)
    if view == "scores":
        scores = score_methods(study.rows())
        return lambda path: plot_scores(scores, path)
    raise UsageError(f"the published study came without the numbers of --view {view}.")
