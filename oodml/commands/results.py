"""Directories of runs: the options that name them, and their checks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oodml.commands.options import FOLDER, together
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder

metric_option = click.option(
    "--metric", default="recall_at_1", help="Metric of the runs; `oodml list metrics` names them."
)
directory_argument = together(click.argument("directory", type=FOLDER), metric_option)
output_option = click.option(
    "-o", "--output", type=FOLDER, default="results", help="Directory of the runs."
)


def open_results(directory: Path) -> tuple[Ladder, list[RunRecord]]:
    """The ladder and the finished runs of a directory; `DataError` if either is missing."""
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder

    check_directory(directory)
    records = Store(directory).records()
    if not records:
        raise DataError(f"{directory} holds no finished run yet; make some with `oodml run`.")
    return Ladder.load(directory / "ladder.json"), records


def check_directory(directory: Path) -> None:
    """Raise `DataError` if the directory is not there."""
    if not directory.is_dir():
        raise DataError(f"no directory {directory}; `oodml run LADDER -m METHOD -o DIR` makes one.")


def check_writable(directory: Path) -> None:
    """Raise `DataError` if nothing can be written to a directory; does not make it."""
    place = next(place for place in (directory, *directory.absolute().parents) if place.exists())
    if not place.is_dir():
        raise DataError(f"{place} is a file, so {directory} can be no folder; give another -o DIR.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise DataError(f"{directory} cannot be written; give another -o DIR.")


def keep_ladder(ladder: Ladder, store: Store) -> None:
    """Write the ladder beside the runs; `DataError` if another one is there already.

    The same splits under another ruler are another ladder, of which the message names both.
    """
    from oodml.splits.ladder import Ladder

    path = store.directory / "ladder.json"
    if not path.exists():
        ladder.save(path)
        return
    kept = Ladder.load(path)
    if kept.features.network != ladder.features.network:
        raise DataError(
            f"{store.directory} holds the runs of another ladder, measured by "
            f"{kept.features.network}; this one is measured by {ladder.features.network}. Rulers "
            "are never mixed: give another -o DIR."
        )
    if kept.to_json()["rungs"] != ladder.to_json()["rungs"]:
        raise DataError(f"{store.directory} holds the runs of another ladder; give another -o DIR.")


def check_charts(paths: Sequence[Path]) -> None:
    """Raise `UsageError` unless every name is that of a chart, before any is drawn."""
    for path in paths:
        if path.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise UsageError(f"{path}: a chart's name ends in .png, .svg or .pdf.")
