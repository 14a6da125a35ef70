"""`oodml plot`: the charts of a directory of runs, or of the published study."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.charts import (
    Draw,
    curve_chart,
    deviation_chart,
    few_shot_chart,
    geometry_chart,
    published_chart,
    score_chart,
    summary_rows,
)
from oodml.commands.options import FILE, FOLDER
from oodml.commands.results import check_charts, metric_option, open_results
from oodml.commands.table import check_published_metric, published_option
from oodml.commands.terminal import echo
from oodml.errors import UsageError

if TYPE_CHECKING:
    from oodml.eval.figures.curves import ShiftAxis
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.eval.statistics.published import PublishedStudy
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

_LOG = logging.getLogger("oodml")


@click.command()
@click.argument("directory", type=FOLDER, required=False)
@metric_option
@click.option(
    "--view",
    type=click.Choice(["curves", "deviation", "scores", "few-shot", "geometry"]),
    default="curves",
    show_default=True,
    help="Metric against FID; deviation from the mean; AGS; gain by adaptation; what goes with it.",
)
@click.option(
    "--x",
    type=click.Choice(["fid", "excess", "scaled"]),
    help="FID, its excess over random splits, or FID scaled to [0, 1]  [default: fid]",
)
@click.option(
    "--coefficient",
    type=click.Choice(["spearman", "pearson"]),
    help="Correlation that --view geometry shows  [default: spearman]",
)
@published_option
@click.option(
    "--pair-weights", is_flag=True, help="How each loss weighs pairs, against their similarity."
)
@click.option("--rung", type=int, help="Rung of --pair-weights  [default: 0]")
@click.option(
    "-o",
    "--output",
    type=FILE,
    multiple=True,
    help="Chart to write, .png, .svg or .pdf; repeatable  [default: DIRECTORY/METRIC.png and .svg]",
)
def plot_command(
    directory: Path | None,
    metric: str,
    view: str,
    x: str | None,
    coefficient: str | None,
    published: str | None,
    pair_weights: bool,
    rung: int | None,
    output: tuple[Path, ...],
) -> None:
    """Draw METRIC against FID, one line per method, or another view of the runs of DIRECTORY."""
    if directory is None and published is None:
        raise UsageError("nothing to draw: name a DIRECTORY of runs, or --published NAME.")
    shown = "pair-weights" if pair_weights else view
    _check_options(shown, published, {"x": x, "coefficient": coefficient, "rung": rung})
    paths = output or _default_paths(directory, metric, shown, published)
    check_charts(paths)
    check_published_metric(published, metric)
    if pair_weights:
        draw = _pair_chart(directory, rung or 0)
    elif directory is None:
        draw = published_chart(published or "", view, x or "fid")
    else:
        ladder, records = open_results(directory)
        draw = _own_chart(ladder, records, metric, view, x, published, coefficient or "spearman")
    for path in paths:
        draw(path)
        echo(f"written to {path}")


# The views that take each option; others refuse it.
_TAKEN_BY = {
    "x": ("curves", "deviation", "few-shot"),
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


def _default_paths(
    directory: Path | None, metric: str, view: str, published: str | None
) -> list[Path]:
    name = metric if directory is not None else f"published-{published}"
    suffix = "" if view == "curves" else f"-{view}"
    return [(directory or Path()) / f"{name}{suffix}.{kind}" for kind in ("png", "svg")]


def _pair_chart(directory: Path | None, rung: int) -> Draw:
    """The pair weights of every method's first seed on one rung."""
    from oodml.eval.figures.pair_weights import kept_weights, plot_pair_weights
    from oodml.runs.store import Store

    if directory is None:
        raise UsageError("--pair-weights shows runs: name their DIRECTORY.")
    ladder, records = open_results(directory)
    if not 0 <= rung < len(ladder.rungs):
        raise UsageError(f"rung {rung}: this ladder has rungs 0 to {len(ladder.rungs) - 1}.")
    split = ladder.rungs[rung]
    own = [record for record in records if record.spec.data.split == split.id]
    weights = kept_weights(Store(directory), own)
    title = f"weights of pairs at the end of training, rung {rung} (FID {split.fid:.1f})"
    return lambda path: plot_pair_weights(weights, path, title=title)


def _own_chart(
    ladder: Ladder,
    records: Sequence[RunRecord],
    metric: str,
    view: str,
    x: str | None,
    published: str | None,
    coefficient: str,
) -> Draw:
    """The function that writes the chart, once all that can fail has been done."""
    if published is not None and view not in ("curves", "scores"):
        raise UsageError(f"--published stands beside runs in the curves and scores, not in {view}.")
    if view == "geometry":
        return geometry_chart(ladder, records, metric, coefficient)
    axis, study, theirs = _axes(ladder, x, published)
    words: dict[str, Any] = {"metric": metric, "fid_label": axis.label}
    words |= {"start": axis.start, "start_name": axis.start_name}
    if view == "few-shot":
        return few_shot_chart(ladder, records, metric, axis, words)
    rows = summary_rows(ladder, records, metric)
    if view == "deviation":
        return deviation_chart(axis.placed(rows), words)
    if view == "scores":
        return score_chart(rows, ladder, metric, study)
    return curve_chart(ladder, records, metric, axis, rows, theirs, words)


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
