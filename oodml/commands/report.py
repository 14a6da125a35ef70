"""`oodml report`: one HTML page of everything in a directory of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from oodml.commands.opening import open_for_ladder
from oodml.commands.options import FILE, data_options, machine_options
from oodml.commands.results import directory_argument, open_results
from oodml.commands.tables import echo


@click.command()
@directory_argument
@click.option(
    "-o", "--output", type=FILE, show_default="DIRECTORY/report.html", help="Page to write."
)
@click.option(
    "--data", help="SOURCE of the ladder's data, for pictures, groups and the plane of classes."
)
@data_options
@machine_options
def report_command(
    directory: Path, metric: str, output: Path | None, data: str | None, **options: Any
) -> None:
    """Write one HTML page about a directory of runs.

    It opens with what the shift costs, where there are reference runs, and holds curves, tables,
    the ladder, galleries and the runs. It needs no network. Without --data it has no pictures and
    no plane of classes.
    """
    from oodml.eval.report.page import write_report
    from oodml.runs.store import Store

    ladder, _ = open_results(directory)
    features, dataset = None, None
    if data is not None:
        features, dataset = open_for_ladder(ladder, data, images=False, **options)
    path = output or directory / "report.html"
    write_report(Store(directory), ladder, path, metric=metric, features=features, dataset=dataset)
    echo(f"written to {path} ({path.stat().st_size / 1e6:.1f} MB)")
