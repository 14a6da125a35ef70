"""`oodml table`: what a directory of runs, or the published study, says in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oodml.commands.options import FOLDER, format_option
from oodml.commands.pair_views import comparisons_view, ranks_view
from oodml.commands.results import (
    gap_notes,
    long_table,
    metric_option,
    open_results,
    print_table,
    wide_table,
    words_beside,
)
from oodml.commands.tables import Table
from oodml.commands.terminal import echo
from oodml.commands.views import View, deviation_view, deviations_view, few_shot_view, scores_view
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.eval.statistics.published import PublishedStudy
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

VIEWS = {
    "scores": scores_view,
    "deviation": deviation_view,
    "comparisons": comparisons_view,
    "ranks": ranks_view,
}

published_option = click.option(
    "--published",
    metavar="NAME",
    help="Curves of the published study: cub200, cars196 or sop; beside DIRECTORY or alone.",
)


@click.command()
@click.argument("directory", type=FOLDER, required=False)
@metric_option
@click.option(
    "--view",
    type=click.Choice(["curves", *VIEWS, "few-shot"]),
    default="curves",
    show_default=True,
    help="Metric per rung; one score a method; deviation from the mean; pairs; order; adaptation.",
)
@published_option
@format_option
def table_command(
    directory: Path | None, metric: str, view: str, published: str | None, table_format: str
) -> None:
    """Print what the runs of DIRECTORY say about METRIC, with 95% intervals.

    In the formats csv and json every number has a column of its own, in full.
    """
    if directory is None and published is None:
        raise UsageError("nothing to print: name a DIRECTORY of runs, or --published NAME.")
    if published is not None and view in ("comparisons", "few-shot"):
        raise UsageError(f"the published curves have one value a rung, so no --view {view}.")
    check_published_metric(published, metric)
    if directory is not None and published is None and view == "curves":
        print_table(*open_results(directory), metric, table_format)
        return
    shown = []
    if directory is not None:
        shown.append(_own_view(*open_results(directory), metric, view))
    if published is not None:
        shown.append(_published_view(published, view, beside=directory is not None))
    print_views(shown, table_format)


def check_published_metric(published: str | None, metric: str) -> None:
    """`UsageError` unless the metric is the one that was published."""
    if published is not None and metric != "recall_at_1":
        raise UsageError(f"the published curves are of recall_at_1, not of {metric}.")


def print_views(views: Sequence[View], table_format: str) -> None:
    """Print views one below the other; as csv or json their long tables as one."""
    if table_format in ("csv", "json"):
        rows = [row for view in views for row in view.long.rows]
        echo(Table(views[0].long.columns, rows).render(table_format), exact=True)
        return
    blocks = []
    for view in views:
        for title, table in view.tables:
            heading = [words_beside(title, table_format)] if title else []
            blocks += [*heading, table.render(table_format)]
        blocks.append("\n".join(words_beside(note, table_format) for note in view.notes if note))
    echo("\n\n".join(block for block in blocks if block))


def _own_view(ladder: Ladder, records: list[RunRecord], metric: str, view: str) -> View:
    from oodml.eval.statistics.curves import summarize
    from oodml.eval.statistics.few_shot import few_shot_gains

    if view == "few-shot":
        adapted = few_shot_gains(records, ladder, metric)
        if not adapted:
            raise DataError(
                "no run has few-shot episodes; make some with `oodml run --few-shot head`."
            )
        return few_shot_view(adapted, metric)
    rows = summarize(records, ladder, metric)
    if not rows:
        raise DataError("no finished runs on the rungs of this ladder.")
    source = f"{ladder.fid_label()}, {ladder.features.precision}."
    if view != "curves":
        made = VIEWS[view](rows, ladder, metric)
        return replace(made, notes=[*made.notes, source])
    return _curves_view(rows, [rung.fid for rung in ladder.rungs], ladder, source)


def _published_view(name: str, view: str, *, beside: bool) -> View:
    from oodml.eval.figures.style import PUBLISHED
    from oodml.eval.statistics.comparisons import relative_deviation
    from oodml.eval.statistics.published import published_study

    study = published_study(name)
    rows = [replace(row, method=row.method + PUBLISHED) for row in study.rows()]
    if view == "deviation":
        made = deviations_view(relative_deviation(rows, study.means()), "recall_at_1")
    elif view == "curves":
        made = _curves_view(rows, study.fids, None, "")
    else:
        made = VIEWS[view](rows, None, "recall_at_1")
    title = f"published curves of {name}" if beside else ""
    tables = [(title if not number else t, table) for number, (t, table) in enumerate(made.tables)]
    notes = [note for note in made.notes if note and not note.startswith("missing for ")]
    return replace(made, tables=tables, notes=[*notes, *_sources(study)])


def _sources(study: PublishedStudy) -> list[str]:
    hidden = [curve.method for curve in study.curves if None in curve.values]
    return [
        f"source: {study.source}; each value may be off by {study.reading_error}.",
        f"a value that the figure hides is a gap, and without it there is no AGS: "
        f"{', '.join(sorted(hidden)) or 'none'}.",
    ]


def _curves_view(
    rows: Sequence[object], fids: Sequence[float], ladder: Ladder | None, source: str
) -> View:
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.eval.statistics.scores import score_methods

    known = [row for row in rows if isinstance(row, SummaryRow)]
    scores = {score.method: score for score in score_methods(known, ladder)}
    return View(
        [("", wide_table(fids, known, scores))],
        long_table(known),
        [
            "AGS: trapezoid area under recall_at_1 against FID, FID scaled to [0, 1] over the "
            "rungs; ± 95% t-intervals over seeds.",
            source,
            *gap_notes(scores.values()),
        ],
    )
