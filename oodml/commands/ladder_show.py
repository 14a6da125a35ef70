"""`oodml ladder show`: the rungs of a ladder as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import FILE, format_option
from oodml.commands.tables import Table
from oodml.commands.terminal import echo, json_text

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder
    from oodml.splits.split import Split


@click.command()
@click.argument("ladder", type=FILE)
@click.option("--moved", type=click.IntRange(0), default=3, show_default=True,
              help="How many moved classes to name per rung.")  # fmt: skip
@format_option
def show(ladder: Path, moved: int, table_format: str) -> None:
    """Print the rungs of LADDER: FID, sizes, and what moved since the rung before."""
    from oodml.splits.ladder import Ladder

    show_ladder(Ladder.load(ladder), table_format, moved)


def show_ladder(ladder: Ladder, table_format: str, most: int) -> None:
    """Print a ladder as a table with the definitions that its numbers need."""
    columns = [
        "rung", "split", "fid", "null_mean", "excess", "z", "mean_term", "covariance_term",
        "train_classes", "test_classes", "train_images", "test_images",
        "to_test", "to_train", "removed",
    ]  # fmt: skip
    previous = [None, *ladder.rungs[:-1]]
    rows = [_row(ladder, n, previous[n], rung) for n, rung in enumerate(ladder.rungs)]
    if table_format == "json":
        moves = [_moved(previous[n], rung) for n, rung in enumerate(ladder.rungs)]
        records = [{**row, **move} for row, move in zip(rows, moves, strict=True)]
        echo(json_text(records))
        return
    if not any(row["null_mean"] is not None for row in rows):
        columns = [name for name in columns if name not in ("null_mean", "excess", "z")]
    table = Table(columns, [[row[c] for c in columns] for row in rows])
    echo(table.render(table_format), exact=table_format == "csv")
    if table_format == "text":
        _explain(ladder, most)


def _row(ladder: Ladder, number: int, before: Split | None, rung: Split) -> dict[str, Any]:
    shift = rung.shift
    return {
        "rung": number,
        "split": rung.id,
        "fid": rung.fid,
        "null_mean": shift.null_mean if shift else None,
        "excess": shift.excess if shift else None,
        "z": shift.z if shift else None,
        "mean_term": shift.mean_term if shift else None,
        "covariance_term": shift.covariance_term if shift else None,
        "train_classes": len(rung.train_classes),
        "test_classes": len(rung.test_classes),
        "train_images": ladder.images(rung.train_classes),
        "test_images": ladder.images(rung.test_classes),
        **{key: len(names) for key, names in _moved(before, rung).items()},
    }


def _moved(before: Split | None, rung: Split) -> dict[str, list[str]]:
    """The classes that changed sides or left since the rung before, sorted."""
    if before is None:
        return {"to_test": [], "to_train": [], "removed": []}
    train, test = set(before.train_classes), set(before.test_classes)
    now_train, now_test = set(rung.train_classes), set(rung.test_classes)
    return {
        "to_test": sorted(train & now_test),
        "to_train": sorted(test & now_train),
        "removed": sorted((train | test) - now_train - now_test),
    }


def _explain(ladder: Ladder, most: int) -> None:
    for number in range(1, len(ladder.rungs)) if most else []:
        moved = _moved(ladder.rungs[number - 1], ladder.rungs[number])
        named = [f"{key}: {_some(names, most)}" for key, names in moved.items() if names]
        echo(f"rung {number} moved  {'; '.join(named)}")
    source = ladder.features
    echo(
        f"{ladder.fid_label()}, input: {source.preprocessing}, {source.precision}, weights "
        f"{source.weights[:12]}. Squared feature units; only equal settings compare."
    )
    null = ladder.rungs[0].shift
    if null is not None and null.null_draws:
        echo(
            f"null: mean FID of {null.null_draws} random splits of a rung's own classes into sides "
            "of the same sizes; excess = FID - null, z = excess in its standard deviations."
        )
    echo(
        f"dataset {source.dataset} ({source.fingerprint or 'no images yet'}), "
        f"{len(ladder.trajectory)} splits on the trajectory, which ended: {ladder.stopped}."
    )


def _some(names: list[str], most: int) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
