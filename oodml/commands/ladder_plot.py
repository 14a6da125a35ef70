"""`oodml ladder plot`: a ladder as charts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import (
    FILE,
    data_options,
    machine_options,
    open_dataset,
    open_for_ladder,
)
from oodml.commands.terminal import echo
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.splits.ladder import Ladder

VIEWS = ("trajectory", "projection", "composition", "moves")


@click.command()
@click.argument("ladder", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Chart, .png, .svg or .pdf.")
@click.option("--view", type=click.Choice(VIEWS), default="trajectory", show_default=True,
              help="FID along the walk; class means in a plane; groups per side; moved classes "
                   "as images.")  # fmt: skip
@click.option("--projection", type=click.Choice(["pca", "umap"]),
              help="How class means come into the plane  [default: pca]")  # fmt: skip
@click.option("--most", type=click.IntRange(1),
              help="Images a strip of moved classes  [default: 12]")  # fmt: skip
@click.option("--data", help="SOURCE of the ladder's data  [default: as the ladder remembers]")
@data_options
@machine_options
def plot(
    ladder: Path,
    output: Path,
    view: str,
    projection: str | None,
    most: int | None,
    data: str | None,
    **options: Any,
) -> None:
    """Draw LADDER; all views but the trajectory need its data."""
    from oodml.eval.figures.class_plane import plot_projection
    from oodml.eval.figures.ladder import plot_composition, plot_moves, plot_trajectory
    from oodml.splits.ladder import Ladder

    if output.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{output}: a chart's name ends in .png, .svg or .pdf.")
    if projection is not None and view != "projection":
        raise UsageError(f"--projection says nothing about {view}; add --view projection.")
    if most is not None and view != "moves":
        raise UsageError(f"--most says nothing about {view}; add --view moves.")
    built = Ladder.load(ladder)
    if view == "trajectory":
        plot_trajectory(built, output)
    elif view == "projection":
        features, _ = open_for_ladder(built, data, images=False, **options)
        plot_projection(built, features, output, projection=projection or "pca")
    elif view == "composition":
        plot_composition(built, _groups(built, data, options), output)
    else:
        plot_moves(built, _images(built, data, options), output, most=most or 12)
    echo(f"written to {output}")


def _groups(ladder: Ladder, data: str | None, options: dict[str, Any]) -> dict[str, str]:
    from oodml.features.features import Features

    source = _source(ladder, data)
    if source.endswith(".npz"):
        features = Features.load(source)
        names, groups = features.class_names, features.groups
    else:
        dataset = _images(ladder, data, options)
        names, groups = dataset.class_names, dataset.groups
    if groups is None:
        raise DataError(f"{source} knows no groups of classes, so there is no composition to draw.")
    return dict(zip(names, groups, strict=True))


def _images(ladder: Ladder, data: str | None, options: dict[str, Any]) -> Dataset:
    source = _source(ladder, data)
    if source.endswith(".npz"):
        raise DataError(f"moved classes are drawn as images, and {source} holds features.")
    return open_dataset(source, options["root"], options["skip_broken"])


def _source(ladder: Ladder, data: str | None) -> str:
    source = data or ladder.source
    if not source:
        raise DataError("the ladder does not say where its data is; name it with --data SOURCE.")
    return source
