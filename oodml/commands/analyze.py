"""`oodml analyze`: which property of an embedding goes with its retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oodml.commands.options import format_option
from oodml.commands.results import directory_argument, open_results
from oodml.commands.table import print_views
from oodml.commands.tables import Table
from oodml.commands.views import View, in_brackets

if TYPE_CHECKING:
    from oodml.eval.statistics.correlation import Correlation


@click.command()
@directory_argument
@click.option(
    "--coefficient",
    type=click.Choice(["spearman", "pearson"]),
    default="spearman",
    show_default=True,
    help="Correlation to print; csv and json hold both.",
)
@format_option
def analyze_command(directory: Path, metric: str, coefficient: str, table_format: str) -> None:
    """Correlate the geometry of training and test embeddings with METRIC over methods.

    Within each rung, pooled over rungs, and pooled after each rung's means are taken off.
    """
    from oodml.eval.statistics.correlation import correlate_geometry

    ladder, records = open_results(directory)
    found = correlate_geometry(records, ladder, metric)
    print_views([_view(found, metric, coefficient)], table_format)


def _view(found: Sequence[Correlation], metric: str, coefficient: str) -> View:
    rungs = sorted(
        {each.scope for each in found if each.scope.startswith("rung ")},
        key=lambda scope: int(scope.removeprefix("rung ")),
    )
    cells = {(each.property, each.side, each.scope): each for each in found}
    shown = []
    for name, side in dict.fromkeys((each.property, each.side) for each in found):
        own = [cells.get((name, side, scope)) for scope in ("pooled", "within", *rungs)]
        values = [None if each is None else getattr(each, coefficient) for each in own]
        single = [f"{value.value:.2f}" if value else "-" for value in values[2:]]
        shown.append([name, side, *map(in_brackets, values[:2]), *single])
    return View(
        [("", Table(["property", "side", "pooled", "within rungs", *rungs], shown))],
        _long(found),
        [
            f"{coefficient.capitalize()} correlation of each property with {metric}; a point is one"
            " method on one rung, the mean over its seeds.",
            "pooled: all points, so what shift does to both counts too; within rungs: after each "
            "rung's means are taken off both.",
            "95% intervals: percentiles of a bootstrap over methods, from six methods on; those of "
            "single rungs, by Fisher's z, stand in csv and json. A correlation is no cause.",
        ],
    )


def _long(found: Sequence[Correlation]) -> Table:
    columns = ["property", "side", "scope", "points", "methods"]
    ends = ["", "_low", "_high"]
    rows = []
    for each in found:
        row = [getattr(each, name) for name in columns]
        for estimate in (each.pearson, each.spearman):
            row += [estimate.value, estimate.low, estimate.high] if estimate else [None, None, None]
        rows.append(row)
    names = [name + end for name in ("pearson", "spearman") for end in ends]
    return Table([*columns, *names], rows)
