"""`oodml table` and `oodml analyze`: what a directory of runs says in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oodml.commands.comparison_views import (
    comparisons_view,
    deviation_view,
    deviations_view,
    ranks_view,
)
from oodml.commands.options import FOLDER, format_option
from oodml.commands.results import directory_argument, metric_option, open_results
from oodml.commands.tables import Table, echo
from oodml.commands.transfer_view import transfer_view
from oodml.commands.views import View, curves_view, few_shot_view, in_brackets, scores_view
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.eval.statistics.correlation import Correlation
    from oodml.eval.statistics.published import PublishedStudy
    from oodml.eval.statistics.transfer import MethodTransfer
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder

VIEWS = {
    "scores": scores_view,
    "deviation": deviation_view,
    "comparisons": comparisons_view,
    "ranks": ranks_view,
}
# Those in which lines are compared with each other, so that --by chooses which.
COMPARING = ("deviation", "comparisons", "ranks")

by_option = click.option(
    "--by",
    type=click.Choice(["method", "backbone"]),
    help="Compare methods that share a backbone, or backbones that share a method.",
)
published_option = click.option(
    "--published",
    metavar="NAME",
    help="Published curves of cub200, cars196 or sop, beside DIRECTORY or alone.",
)


@click.command()
@click.argument("directory", type=FOLDER, required=False)
@metric_option
@click.option(
    "--view",
    type=click.Choice(["curves", *VIEWS, "few-shot", "transfer"]),
    default="curves",
    help="Metric per rung; score per method; deviation from their mean; pairs; ranks; few-shot; "
    "what the shift costs.",
)
@by_option
@published_option
@format_option
def table_command(
    directory: Path | None,
    metric: str,
    view: str,
    by: str | None,
    published: str | None,
    table_format: str,
) -> None:
    """Print a metric per method and rung with 95% intervals.

    Or another view of the runs of DIRECTORY. In the formats csv and json every number has a column
    of its own, in full.
    """
    if directory is None and published is None:
        raise UsageError("nothing to print: name a DIRECTORY of runs, or --published NAME.")
    if published is not None and view in ("comparisons", "few-shot", "transfer"):
        raise UsageError(f"the published curves have one value a rung, so no --view {view}.")
    check_by(by, view, COMPARING, alone=directory is None)
    check_published_metric(published, metric)
    views = []
    if directory is not None:
        views.append(view_of(*open_results(directory), metric, view, by))
    if published is not None:
        views.append(_published_view(published, view, beside=directory is not None))
    print_views(views, table_format)


def check_by(by: str | None, view: str, comparing: Sequence[str], *, alone: bool) -> None:
    """Raise `UsageError` if --by has no effect: in a view without it, on published curves alone."""
    if by is not None and view not in comparing:
        raise UsageError(
            f"--by says nothing about {view}; leave it out, or choose --view "
            f"{' or '.join(comparing)}."
        )
    if by is not None and alone:
        raise UsageError("--by chooses among runs of several models; name a DIRECTORY of runs.")


def check_published_metric(published: str | None, metric: str) -> None:
    """Raise `UsageError` unless the metric is the one that was published."""
    if published is not None and metric != "recall_at_1":
        raise UsageError(f"the published curves are of recall_at_1, not of {metric}.")


def view_of(
    ladder: Ladder, records: list[RunRecord], metric: str, view: str, by: str | None = None
) -> View:
    """A view of runs by its name on the command line."""
    from oodml.eval.statistics.curves import summarize
    from oodml.eval.statistics.few_shot import few_shot_gains

    if view == "few-shot":
        adapted = few_shot_gains(records, ladder, metric)
        if not adapted:
            raise DataError(
                "no run has few-shot episodes; make some with `oodml run --few-shot head`."
            )
        return few_shot_view(adapted, metric)
    if view == "transfer":
        found = transfer_of(records, ladder, metric)
        made = transfer_view(found, metric)
        notes = [*made.notes, *_without_reference(records, found)]
        return _with_cautions(replace(made, notes=notes), ladder, over_seeds=True)
    rows = summarize(records, ladder, metric)
    if not rows:
        raise DataError(
            f"none of {len(records)} runs is on the rungs of this ladder; give the directory of "
            "its own runs."
        )
    if view == "curves":
        made = curves_view(rows, ladder, metric, [rung.fid for rung in ladder.rungs])
    else:
        made = VIEWS[view](rows, ladder, metric, **({"by": by} if by else {}))
    over_seeds = view != "ranks" and any(row.n > 1 for row in rows)
    return _with_cautions(made, ladder, over_seeds=over_seeds)


def transfer_of(records: Sequence[RunRecord], ladder: Ladder, metric: str) -> list[MethodTransfer]:
    """What the shift costs every method; `DataError` where no run says it."""
    from oodml.eval.statistics.transfer import transfer

    found = transfer(records, ladder, metric)
    if not found:
        raise DataError(
            "no method has a matched and a shifted run on one rung with one seed; add them to "
            "these runs with `oodml run LADDER -m METHOD --reference -o DIRECTORY` and the "
            "settings (--steps and the like) that these runs had."
        )
    return found


def _without_reference(records: list[RunRecord], found: list[MethodTransfer]) -> list[str]:
    """A note that names the trained methods that have plain runs alone."""
    from oodml.eval.statistics.comparable import plain_runs
    from oodml.eval.statistics.series import series_of

    trained = [r.spec for r in plain_runs(records) if r.spec.model.train != "none"]
    shown = {(each.series.method, each.series.backbone) for each in found}
    every = set(series_of(trained).values())
    lacking = sorted(each.name for each in every if (each.method, each.backbone) not in shown)
    return [f"without reference runs: {', '.join(lacking)}."] if lacking else []


def _with_cautions(view: View, ladder: Ladder, *, over_seeds: bool) -> View:
    """The view with what a reader must know of its intervals and its FIDs."""
    from oodml.eval.statistics.cautions import TRAINING_ONLY, fid_cautions

    cautions = [*([TRAINING_ONLY] if over_seeds else []), *fid_cautions(ladder)]
    return replace(view, notes=[*view.notes, *cautions, f"{ladder.fid_details()}."])


def print_views(views: Sequence[View], table_format: str) -> None:
    """Print views one below the other; as csv or json their long tables as one."""
    if table_format in ("csv", "json"):
        rows = [row for view in views for row in view.long.rows]
        echo(Table(views[0].long.columns, rows).render(table_format), exact=True)
        return
    # In LaTeX text beside a table is a comment, so that the output compiles.
    mark = "% " if table_format == "latex" else ""
    blocks = []
    for view in views:
        for title, table in view.tables:
            blocks += [mark + title] if title else []
            blocks.append(table.render(table_format))
        blocks.append("\n".join(mark + note for note in view.notes))
    echo("\n\n".join(filter(None, blocks)))


def _published_view(name: str, view: str, *, beside: bool) -> View:
    from oodml.eval.figures.style import PUBLISHED
    from oodml.eval.statistics.comparisons import relative_deviation
    from oodml.eval.statistics.published import published_study
    from oodml.eval.statistics.series import Series

    study = published_study(name)
    rows = [replace(row, series=Series(row.series.method + PUBLISHED)) for row in study.rows()]
    if view == "deviation":
        made = deviations_view(relative_deviation(rows, study.means()), "recall_at_1")
    elif view == "curves":
        made = curves_view(rows, None, "recall_at_1", study.fids)
    else:
        made = VIEWS[view](rows, None, "recall_at_1")
    title = f"published curves of {name}" if beside else ""
    tables = [(title if not number else t, table) for number, (t, table) in enumerate(made.tables)]
    notes = [note for note in made.notes if not note.startswith("missing for ")]
    return replace(made, tables=tables, notes=[*notes, *_published_notes(study)])


def _published_notes(study: PublishedStudy) -> list[str]:
    hidden = [curve.method for curve in study.curves if None in curve.values]
    return [
        f"source: {study.source}; each value may be off by {study.reading_error}.",
        f"a value that the figure hides is a gap, and without it there is no AGS: "
        f"{', '.join(sorted(hidden)) or 'none'}.",
    ]


@click.command()
@directory_argument
@click.option(
    "--coefficient",
    type=click.Choice(["spearman", "pearson"]),
    default="spearman",
    help="Correlation to print; csv and json hold both.",
)
@by_option
@format_option
def analyze_command(
    directory: Path, metric: str, coefficient: str, by: str | None, table_format: str
) -> None:
    """Correlate the geometry of embeddings with a metric.

    A point is a method on a rung. Correlations are within each rung, pooled over rungs, and pooled
    after each rung's means are subtracted. Several methods on several models
    need --by.
    """
    from oodml.eval.statistics.correlation import correlate_geometry

    ladder, records = open_results(directory)
    found = correlate_geometry(records, ladder, metric, by)
    print_views([_geometry_view(found, metric, coefficient)], table_format)


def _geometry_view(found: Sequence[Correlation], metric: str, coefficient: str) -> View:
    rungs = sorted(
        {each.scope for each in found if each.scope.startswith("rung ")},
        key=lambda scope: int(scope.removeprefix("rung ")),
    )
    cells = {(each.group, each.property, each.side, each.scope): each for each in found}
    shown: dict[str, list[list[str]]] = {each.group: [] for each in found}
    keys = dict.fromkeys((each.group, each.property, each.side) for each in found)
    for group, name, side in keys:
        own = [cells.get((group, name, side, scope)) for scope in ("pooled", "within", *rungs)]
        values = [None if each is None else getattr(each, coefficient) for each in own]
        single = [f"{value.value:.2f}" if value else "-" for value in values[2:]]
        shown[group].append([name, side, *map(in_brackets, values[:2]), *single])
    columns = ["property", "side", "pooled", "within rungs", *rungs]
    return View(
        [(group, Table(columns, rows)) for group, rows in sorted(shown.items())],
        _long(found),
        [
            f"{coefficient.capitalize()} correlation of each property with {metric}; a point is one"
            " method on one rung, the mean over its seeds.",
            "pooled: all points, so what shift does to both counts too; within rungs: after each "
            "rung's means are subtracted from both.",
            "95% intervals: percentiles of a bootstrap over methods, from six methods on; those of "
            "single rungs, by Fisher's z, stand in csv and json. A correlation is no cause.",
        ],
    )


def _long(found: Sequence[Correlation]) -> Table:
    columns = ["group", "property", "side", "scope", "points", "methods"]
    rows = []
    for each in found:
        row = [getattr(each, name) for name in columns]
        for estimate in (each.pearson, each.spearman):
            row += [estimate.value, estimate.low, estimate.high] if estimate else [None, None, None]
        rows.append(row)
    names = [name + end for name in ("pearson", "spearman") for end in ("", "_low", "_high")]
    return Table([*columns, *names], rows)
