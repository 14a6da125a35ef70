"""`oodml plot`: the charts of a directory of runs, or of the published study."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import FILE, FOLDER
from oodml.commands.results import check_charts, metric_option, open_results
from oodml.commands.table import (
    by_option,
    check_by,
    check_published_metric,
    published_option,
    transfer_of,
)
from oodml.commands.tables import echo
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.eval.figures.curves import ShiftAxis
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.eval.statistics.published import PublishedStudy
    from oodml.eval.statistics.series import Series
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

_LOG = logging.getLogger("oodml")

# Writes a chart; made once all that can fail has been done, and called for every output.
Draw = Callable[[Path], None]


@click.command()
@click.argument("directory", type=FOLDER, required=False)
@metric_option
@click.option(
    "--view",
    type=click.Choice(["curves", "deviation", "scores", "few-shot", "geometry", "transfer"]),
    default="curves",
    help="Metric against FID; deviation from the methods' mean; AGS; few-shot gain; correlations; "
    "what the shift costs.",
)
@click.option(
    "--x",
    type=click.Choice(["fid", "excess", "scaled"]),
    show_default="fid",
    help="FID, its excess over random splits, or FID scaled to [0, 1].",
)
@click.option(
    "--coefficient",
    type=click.Choice(["spearman", "pearson"]),
    show_default="spearman",
    help="Correlation (--view geometry).",
)
@by_option
@published_option
@click.option(
    "--pair-weights", is_flag=True, help="Weight of pairs in each loss, against their similarity."
)
@click.option("--rung", type=int, show_default="0", help="Rung of --pair-weights.")
@click.option(
    "-o",
    "--output",
    type=FILE,
    multiple=True,
    show_default="DIRECTORY/METRIC.png and .svg",
    help="Chart to write (.png, .svg or .pdf); repeatable.",
)
def plot_command(
    directory: Path | None,
    metric: str,
    view: str,
    x: str | None,
    coefficient: str | None,
    by: str | None,
    published: str | None,
    pair_weights: bool,
    rung: int | None,
    output: tuple[Path, ...],
) -> None:
    """Draw a metric against FID, one line per method.

    Or another view of the runs of DIRECTORY.
    """
    if directory is None and published is None:
        raise UsageError("nothing to draw: name a DIRECTORY of runs, or --published NAME.")
    shown = "pair-weights" if pair_weights else view
    _check_options(shown, published, {"x": x, "coefficient": coefficient, "rung": rung})
    check_by(by, shown, ("deviation", "geometry"), alone=directory is None)
    paths = output or default_paths(directory, metric, shown, published)
    check_charts(paths)
    check_published_metric(published, metric)
    caption = ""
    if directory is None:
        draw = _published_chart(published or "", view, x or "fid")
    elif pair_weights:
        draw = _pair_chart(directory, rung or 0)
    else:
        ladder, records = open_results(directory)
        draw = chart_of(ladder, records, metric, view, x, published, coefficient, by)
        caption = _caption(ladder, records, metric) if view == "transfer" else ""
    for path in paths:
        draw(path)
        echo(f"written to {path}")
    if caption:
        echo(f"\n{caption}")


# The views that take each option; others refuse it.
_TAKEN_BY = {
    "x": ("curves", "deviation", "few-shot", "transfer"),
    "coefficient": ("geometry",),
    "rung": ("pair-weights",),
}


def _check_options(shown: str, published: str | None, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None and shown not in _TAKEN_BY[name]:
            raise UsageError(
                f"--{name} says nothing about {shown}; leave it out, or draw "
                f"{' or '.join(_TAKEN_BY[name])}."
            )
    if published is not None and shown == "pair-weights":
        raise UsageError("the published study came without pair weights; leave --published out.")


def default_paths(
    directory: Path | None, metric: str, view: str, published: str | None = None
) -> list[Path]:
    """Where the charts of a view are written if no place was named: a .png and a .svg."""
    name = metric if directory is not None else f"published-{published}"
    suffix = "" if view == "curves" else f"-{view}"
    return [(directory or Path()) / f"{name}{suffix}.{kind}" for kind in ("png", "svg")]


def chart_of(
    ladder: Ladder,
    records: Sequence[RunRecord],
    metric: str,
    view: str = "curves",
    x: str | None = None,
    published: str | None = None,
    coefficient: str | None = None,
    by: str | None = None,
) -> Draw:
    """The chart of a view of runs by its name on the command line."""
    from oodml.eval.figures.curves import plot_curves, plot_deviation
    from oodml.eval.figures.methods import plot_few_shot, plot_geometry, plot_scores
    from oodml.eval.figures.style import PUBLISHED
    from oodml.eval.figures.transfer import plot_transfer
    from oodml.eval.statistics.cautions import axis_notes
    from oodml.eval.statistics.comparisons import relative_deviation
    from oodml.eval.statistics.correlation import correlate_geometry
    from oodml.eval.statistics.curves import summarize
    from oodml.eval.statistics.few_shot import few_shot_gains
    from oodml.eval.statistics.scores import score_methods
    from oodml.eval.statistics.series import Series

    if published is not None and view not in ("curves", "scores"):
        raise UsageError(f"--published stands beside runs in the curves and scores, not in {view}.")
    if view == "geometry":
        found = correlate_geometry(records, ladder, metric, by)
        which = coefficient or "spearman"
        return lambda path: plot_geometry(found, path, metric=metric, coefficient=which)
    axis, study, theirs = _axes(ladder, x, published)
    labels = {"metric": metric, **_labels(axis)}
    labels["fid_label"] = "\n".join([axis.label, *axis_notes(ladder, x or "fid")])
    if view == "few-shot":
        gains = axis.placed(few_shot_gains(records, ladder, metric))
        return lambda path: plot_few_shot(gains, path, **labels)
    if view == "transfer":
        costs, label = transfer_of(records, ladder, metric), labels["fid_label"]
        return lambda path: plot_transfer(
            costs, path, metric=metric, fid_label=label, places=axis.places
        )
    rows = summarize(records, ladder, metric)
    if view == "scores":
        scores = score_methods(rows, ladder)
        for score in score_methods(study.rows()) if study else []:
            scores.append(replace(score, series=Series(score.series.method + PUBLISHED)))
        return lambda path: plot_scores(scores, path, metric=metric)
    placed = axis.placed(rows)
    if view == "deviation":
        deviations = relative_deviation(placed, by=by) if placed else []
        return lambda path: plot_deviation(deviations, path, **labels)
    met = _break_even(records, ladder, metric, axis)
    return lambda path: plot_curves(placed, path, published=theirs, break_even=met, **labels)


def _break_even(
    records: Sequence[RunRecord], ladder: Ladder, metric: str, axis: ShiftAxis
) -> dict[Series, float]:
    """The place of every method's break-even on the axis, where reference runs give one."""
    from oodml.eval.statistics.transfer import transfer

    try:
        found = transfer(records, ladder, metric)
    except (DataError, UsageError) as error:
        _LOG.info("no break-even is marked: %s", error)
        return {}
    met = {
        each.series: each.break_even.on([axis.places[row.rung] for row in each.rows])[0]
        for each in found
        if each.break_even
    }
    return {series: place for series, place in met.items() if place is not None}


def _caption(ladder: Ladder, records: Sequence[RunRecord], metric: str) -> str:
    from oodml.eval.figures.transfer import transfer_caption

    return transfer_caption(transfer_of(records, ladder, metric), metric)


def _axes(
    ladder: Ladder, x: str | None, published: str | None
) -> tuple[ShiftAxis, PublishedStudy | None, list[SummaryRow]]:
    """The axis, and the published study with its rows on it."""
    from oodml.eval.figures.curves import shift_axis, study_axis, study_of
    from oodml.eval.statistics.published import published_study

    if published is None:
        return shift_axis(ladder, x or "fid"), None, []
    study = published_study(published)
    known = study_of(ladder)
    if known is None or known.name != study.name:
        if x in ("fid", "excess"):
            raise UsageError(
                f"the published FIDs are not measured as {ladder.fid_label()} is, so they share no "
                "axis; give --x scaled."
            )
        _LOG.info("FIDs of two kinds: both ladders are scaled to [0, 1].")
        x = "scaled"
    theirs = study_axis(study, x or "fid").placed(study.rows())
    return shift_axis(ladder, x or "fid"), study, theirs


def _labels(axis: ShiftAxis) -> dict[str, Any]:
    return {"fid_label": axis.label, "start": axis.start, "start_name": axis.start_name}


def _published_chart(name: str, view: str, x: str) -> Draw:
    """A view of the published study alone."""
    from oodml.eval.figures.curves import plot_curves, plot_deviation, study_axis
    from oodml.eval.figures.methods import plot_scores
    from oodml.eval.statistics.comparisons import relative_deviation
    from oodml.eval.statistics.published import published_study
    from oodml.eval.statistics.scores import score_methods

    study = published_study(name)
    axis = study_axis(study, x)
    rows = axis.placed(study.rows())
    if view == "curves":
        return lambda path: plot_curves([], path, published=rows, **_labels(axis))
    if view == "deviation":
        deviations = relative_deviation(rows, study.means())
        return lambda path: plot_deviation(deviations, path, **_labels(axis))
    if view == "scores":
        scores = score_methods(study.rows())
        return lambda path: plot_scores(scores, path)
    raise UsageError(f"the published study came without the numbers of --view {view}.")


def _pair_chart(directory: Path, rung: int) -> Draw:
    """The pair weights of every method's first seed on one rung."""
    from oodml.eval.figures.pair_weights import kept_weights, plot_pair_weights
    from oodml.eval.statistics.comparable import plain_runs
    from oodml.runs.store import Store

    ladder, records = open_results(directory)
    if not 0 <= rung < len(ladder.rungs):
        raise UsageError(f"rung {rung}: this ladder has rungs 0 to {len(ladder.rungs) - 1}.")
    split = ladder.rungs[rung]
    own = [each for each in plain_runs(records) if each.spec.data.split == split.id]
    weights = kept_weights(Store(directory), own)
    title = f"weights of pairs at the end of training, rung {rung} (FID {split.fid:.1f})"
    return lambda path: plot_pair_weights(weights, path, title=title)
