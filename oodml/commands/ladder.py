"""`oodml ladder`: build ladders from features, show them, pair two collections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.opening import open_features, resolved_source
from oodml.commands.options import (
    FILE,
    LazyCommands,
    Number,
    Numbers,
    data_options,
    format_option,
    level_option,
    network_options,
    null_option,
    refuse_features_as_images,
    refuse_to_replace,
)
from oodml.commands.tables import Table, echo, json_text
from oodml.progress import progress_bar

if TYPE_CHECKING:
    from oodml.splits.ladder import Ladder, Step
    from oodml.splits.split import Split


@click.group(
    name="ladder",
    cls=LazyCommands,
    homes={
        "build": "ladder",
        "compare": "ladder_files",
        "export": "ladder_files",
        "import": "ladder_files",
        "measure": "ladder_files",
        "pair": "ladder",
        "plot": "ladder_files",
        "show": "ladder",
    },
    kind="command of ladder",
)
def ladder_command() -> None:
    """Build, measure, show, draw, compare and exchange ladders.

    A ladder is a series of class splits from easy to hard, its rungs.
    """


@click.command()
@click.argument("source")
@click.option("-o", "--output", type=FILE, default="ladder.json", help="Ladder to write.")
@click.option(
    "--rungs",
    type=click.IntRange(2),
    show_default="8",
    help="Number of splits, evenly spaced in FID.",
)
@click.option("--fids", type=Numbers(float), help="Rungs nearest to these FIDs, such as 20,40,60.")
@click.option(
    "--steps",
    type=Numbers(int),
    help="Rungs at these steps from the start, such as 0,6,16; negative is easier.",
)
@click.option("--seed", type=int, default=0, help="Seed of every random choice.")
@click.option(
    "--train-fraction",
    type=Number(0, 1, min_open=True, max_open=True),
    default=0.5,
    help="Share of training classes.",
)
@click.option("--start", help="Start split: CSV (class,side), LADDER.json:RUNG or FILE.pkl:SPLIT.")
@click.option(
    "--by",
    type=click.Choice(["class", "group"]),
    default="class",
    help="What a step moves: single classes or whole groups of them.",
)
@click.option(
    "--level",
    type=click.Choice(["sample", "class"]),
    show_default="sample, class for milbich2021",
    help="Points of the Gaussians: all images, or class means.",
)
@click.option(
    "--search",
    type=click.Choice(["means", "transport", "best", "milbich2021"]),
    default="means",
    help="How steps are chosen: by class means, then by transport, best found, or as published.",
)
@click.option(
    "--budget",
    type=click.IntRange(0),
    show_default="400",
    help="Exact distances that --search best may measure.",
)
@click.option("--easier/--no-easier", default=True, help="Walk to easier splits too.")
@click.option(
    "--swap-size",
    type=click.IntRange(1),
    show_default="2% of a side",
    help="Classes or groups swapped per side in one step.",
)
@click.option(
    "--min-classes",
    type=click.IntRange(2),
    show_default="60% of a side",
    help="Classes that each side keeps.",
)
@null_option
@data_options
@network_options
def build_command(
    source: str,
    output: Path,
    rungs: int | None,
    fids: tuple[float, ...] | None,
    steps: tuple[int, ...] | None,
    start: str | None,
    null: int,
    **options: Any,
) -> None:
    """Build a ladder and write it as JSON.

    SOURCE is a folder of class folders, a CSV or Parquet file with path,label[,group], the name of
    a collection, hf:OWNER/NAME of Hugging Face, or a feature file (.npz).
    """
    from oodml.splits.construction.build_ladder import build_ladder, check_choices
    from oodml.splits.construction.start import check_start, read_start

    settings = {name: options.pop(name) for name in _BUILD_SETTINGS}
    chosen: dict[str, Any] = {
        "rungs": rungs,
        "fids": fids or (),
        "steps": steps or (),
        "null": null,
    }
    # Refused before hours go into the images.
    refuse_features_as_images(source)
    refuse_to_replace(output, source)
    check_choices(
        settings["search"], settings["level"], settings["by"], budget=settings["budget"], **chosen
    )
    if start is not None:
        check_start(start)
    features = open_features(source, **options)
    with progress_bar(desc="ladder", unit=" steps") as bar:
        ladder = build_ladder(
            features,
            start=None if start is None else read_start(start, features.class_names),
            start_name=start or "random",
            source=resolved_source(source),
            on_step=lambda step: advance(bar, step),
            **chosen,
            **settings,
        )
    ladder.save(output)
    show_ladder(ladder, "text", 3)
    echo(f"written to {output}")


_BUILD_SETTINGS = (
    "seed", "train_fraction", "by", "level", "search", "budget", "easier", "swap_size",
    "min_classes",
)  # fmt: skip


def advance(bar: Any, step: Step) -> None:
    """Move a progress bar by one step of a trajectory."""
    bar.set_postfix_str(f"{step.kind}, FID {step.fid:.2f}", refresh=False)
    bar.update()


@click.command()
@click.argument("ladder", type=FILE)
@click.option(
    "--moved", type=click.IntRange(0), default=3, help="Number of moved classes named per rung."
)
@format_option
def show_command(ladder: Path, moved: int, table_format: str) -> None:
    """Print a rung per row: FID, sizes, classes moved."""
    from oodml.splits.ladder import Ladder

    show_ladder(Ladder.load(ladder), table_format, moved)


def show_ladder(ladder: Ladder, table_format: str, most: int) -> None:
    """Print a ladder as a table, in text with the definitions and `most` moved classes a rung."""
    columns = [
        "rung", "split", "fid", "null_mean", "excess", "z", "published_fid", "former_fid",
        "mean_term", "covariance_term",
        "train_classes", "test_classes", "train_images", "test_images",
        "to_test", "to_train", "removed",
    ]  # fmt: skip
    previous = [None, *ladder.rungs[:-1]]
    moves = [_moved(before, rung) for before, rung in zip(previous, ladder.rungs, strict=True)]
    rows = [_row(ladder, n, rung, moves[n]) for n, rung in enumerate(ladder.rungs)]
    if table_format == "json":
        ruler = _ruler(ladder)
        echo(json_text([{**row, **move, **ruler} for row, move in zip(rows, moves, strict=True)]))
        return
    for name in ("null_mean", "excess", "z", "published_fid", "former_fid"):
        if all(row[name] is None for row in rows):
            columns.remove(name)
    table = Table(columns, [[row[c] for c in columns] for row in rows])
    echo(table.render(table_format), exact=table_format == "csv")
    if table_format == "text":
        _explain(ladder, moves, most)


def _row(ladder: Ladder, number: int, rung: Split, moves: dict[str, list[str]]) -> dict[str, Any]:
    shift = rung.shift
    return {
        "rung": number,
        "split": rung.id,
        "fid": rung.fid,
        "null_mean": shift.null_mean if shift else None,
        "excess": shift.excess if shift else None,
        "z": shift.z if shift else None,
        "published_fid": rung.published_fid if shift else None,
        "former_fid": ladder.former.fids[number] if ladder.former else None,
        "mean_term": shift.mean_term if shift else None,
        "covariance_term": shift.covariance_term if shift else None,
        "train_classes": len(rung.train_classes),
        "test_classes": len(rung.test_classes),
        "train_images": ladder.images(rung.train_classes),
        "test_images": ladder.images(rung.test_classes),
        **{key: len(names) for key, names in moves.items()},
    }


def _ruler(ladder: Ladder) -> dict[str, str | None]:
    """What measured the FIDs of a ladder's rungs, and what had measured `former_fid`."""
    former = ladder.former
    return {
        "ruler": ladder.features.network,
        "level": ladder.settings.level,
        "former_ruler": former.features.network if former else None,
        "former_level": former.level if former else None,
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


def _explain(ladder: Ladder, moves: list[dict[str, list[str]]], most: int) -> None:
    from oodml.eval.statistics.cautions import fid_cautions

    for number in range(1, len(moves)) if most else []:
        named = [f"{key}: {_some(names, most)}" for key, names in moves[number].items() if names]
        echo(f"rung {number} moved  {'; '.join(named)}")
    for caution in fid_cautions(ladder):
        echo(caution)
    source = ladder.features
    echo(f"{ladder.fid_details()}. Squared feature units; only equal settings compare.")
    for line in _before(ladder):
        echo(line)
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


def _before(ladder: Ladder) -> list[str]:
    """What the FIDs are that the rungs had before they were measured, and whether they rise."""
    lines = []
    if ladder.measured and all(rung.published_fid is not None for rung in ladder.rungs):
        fids = [rung.published_fid or 0.0 for rung in ladder.rungs]
        lines.append(f"published_fid: as the splits came with it. {_order(fids)}")
    if ladder.former:
        label = ladder.former.fid_label()
        lines.append(f"former_fid: {label}, before. {_order(ladder.former.fids)}")
    return lines


def _order(fids: Sequence[float]) -> str:
    pairs = list(combinations(fids, 2))
    falling = sum(one > other for one, other in pairs)
    if not falling:
        return "The rungs had the same order."
    return f"{falling} of {len(pairs)} pairs of rungs had the other order."


def _some(names: list[str], most: int) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


@click.command()
@click.argument("train")
@click.argument("test")
@click.option("-o", "--output", type=FILE, default="pair.json", help="Ladder to write.")
@click.option("--beside", type=FILE, help="Ladder of TRAIN or TEST to put the rung into.")
@click.option(
    "--save-features", type=FILE, help="Features of both (.npz), for `oodml run --data FILE`."
)
@level_option
@data_options
@network_options
def pair_command(
    train: str,
    test: str,
    output: Path,
    beside: Path | None,
    save_features: Path | None,
    level: str,
    **options: Any,
) -> None:
    """Make a rung that trains on TRAIN and tests on TEST.

    Both are folders of class folders, CSVs, collection names or feature files (.npz); classes of
    the same name in both are left out.
    """
    from oodml.splits.cross_collection import pair_ladder, pair_pool
    from oodml.splits.ladder import Ladder

    refuse_to_replace(output, train, test)
    refuse_to_replace(save_features, train, test)
    rungs = None if beside is None else Ladder.load(beside)
    one, other = open_features(train, **options), open_features(test, **options)
    ladder = pair_ladder(one, other, level=level, beside=rungs)
    if save_features is not None:
        pair_pool(one, other, beside=rungs).save(save_features)
        ladder = replace(ladder, source=resolved_source(str(save_features)))
    ladder.save(output)
    show_ladder(ladder, "text", 3)
    echo(f"written to {output}")
