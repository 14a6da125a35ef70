"""`oodml ladder compare`: do two networks build the same ladder?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import FILE, data_options, machine_options, open_for_ladder
from oodml.commands.tables import Table
from oodml.commands.terminal import echo, json_text

if TYPE_CHECKING:
    from oodml.splits.compare import LadderAgreement


@click.command()
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@click.option("--keys", is_flag=True, help="Also correlate the keys of the classes (features).")
@click.option("--data", help="SOURCE of both ladders' data  [default: as they remember]")
@click.option("--format", "table_format", type=click.Choice(["text", "json"]), default="text",
              show_default=True, help="Form of what is printed.")  # fmt: skip
@data_options
@machine_options
def compare(
    first: Path,
    second: Path,
    keys: bool,
    data: str | None,
    table_format: str,
    **options: Any,
) -> None:
    """Say how far the ladders FIRST and SECOND agree: curves, class lists, keys."""
    from oodml.splits.compare import compare_ladders
    from oodml.splits.ladder import Ladder

    ladders = Ladder.load(first), Ladder.load(second)
    features = None
    if keys:
        opened = [open_for_ladder(each, data, images=False, **options)[0] for each in ladders]
        features = (opened[0], opened[1])
    agreement = compare_ladders(*ladders, features)
    if table_format == "json":
        echo(json_text(agreement.to_json()))
        return
    _print(agreement, keys)


def _print(agreement: LadderAgreement, keys: bool) -> None:
    columns = ["rung", "height", "other rung", "other height", "train", "test", "moved", "chance"]
    rows = [
        [r.rung, r.height, r.other_rung, r.other_height, r.jaccard_train, r.jaccard_test,
         r.jaccard_moved, r.chance]
        for r in agreement.rungs
    ]  # fmt: skip
    echo(f"first   {agreement.labels[0]}\nother   {agreement.labels[1]}\n")
    echo(Table(columns, rows).render("text"))
    starts = {True: "the same split", False: "different splits", None: "splits not both known"}
    correlation = agreement.key_correlation
    echo(
        "\nheight: FID scaled to [0, 1] over a ladder's own trajectory, beside the rung of nearest "
        "height.\ntrain, test, moved: Jaccard index of the class lists, moved since the start; "
        f"chance: of random splits.\nThe ladders start from {starts[agreement.same_start]}. Root "
        "mean square distance of the scaled FID curves: "
        f"{agreement.curve_distance:.3f}."
    )
    if correlation is not None:
        echo(f"Spearman correlation of the classes' keys at the start: {correlation:.3f}.")
    elif not keys:
        echo("Add --keys to correlate the classes' keys (reads both ladders' features).")
