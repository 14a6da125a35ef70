"""`oodml dataset`: check image datasets, download collections."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oodml.commands.options import (
    FILE,
    FOLDER,
    LazyCommands,
    refuse_to_replace,
    root_option,
    text_or_json_option,
)
from oodml.errors import DataError

if TYPE_CHECKING:
    from oodml.data.check import Leak, PoolCheck
    from oodml.data.check.duplicates import Integers
    from oodml.data.dataset import Dataset
    from oodml.splits.ladder import Ladder


@click.group(
    name="dataset",
    cls=LazyCommands,
    homes={"check": "dataset", "download": "dataset"},
    kind="command of dataset",
)
def dataset_command() -> None:
    """Check images for leakage and damage; download collections."""


@click.command()
@click.argument("source")
@root_option
@click.option(
    "--max-distance",
    type=click.IntRange(0, 64),
    default=8,
    metavar="BITS",
    help="Bits of 256 that the hashes of near duplicates may differ in.",
)
@click.option(
    "--ladder", type=FILE, help="Ladder whose test images with a copy in training are counted."
)
@text_or_json_option
@click.option("-o", "--output", type=FILE, help="File for the report instead of the screen.")
@click.option("--strict", is_flag=True, help="Exit with 1 if anything was found.")
@click.pass_context
def check_command(
    ctx: click.Context,
    source: str,
    root: Path | None,
    max_distance: int,
    ladder: Path | None,
    text_format: str,
    output: Path | None,
    strict: bool,
) -> None:
    """Find duplicates, broken images and too small classes.

    SOURCE is a folder of class folders, a CSV or Parquet file with path,label[,group], the name of
    a collection, or hf:OWNER/NAME of Hugging Face. Nothing is changed, and the check goes on where
    other commands refuse the images. Text shows the first of every list, JSON all. The exit code is
    0, or 1 with --strict if anything was found.
    """
    from oodml.data.check import check_dataset, report_lines
    from oodml.files import atomic_write
    from oodml.splits.ladder import Ladder

    if source.endswith(".npz"):
        raise DataError(f"{source} holds features; name the images that they were made of.")
    refuse_to_replace(output, source, ladder)
    # Read before the images, so that a wrong file costs no time.
    opened = None if ladder is None else Ladder.load(ladder)
    check = check_dataset(source, root=root, max_distance=max_distance, progress=True)
    report = check.report
    if opened is not None:
        report = replace(report, ladder=_ladder_leaks(opened, check))
    if text_format == "json":
        text = json.dumps(report.to_json(), ensure_ascii=False, indent=2)
    else:
        text = "\n".join(report_lines(report))
    if output is None:
        click.echo(text)
    else:
        with atomic_write(output) as file:
            file.write(text.encode() + b"\n")
    ctx.exit(1 if strict and not report.sound else 0)


@click.command()
@click.argument("name")
@click.option(
    "--root",
    type=FOLDER,
    show_default="$OODML_DATA/NAME or ~/.cache/oodml/collections/NAME",
    help="Folder to put it into.",
)
def download_command(name: str, root: Path | None) -> None:
    """Download a collection and extract it, or only what is missing.

    An interrupted download is resumed. `oodml list datasets` gives the names.
    """
    from oodml.data.collections.download import download_collection, load_collection
    from oodml.data.collections.registry import find_collection

    collection = find_collection(name)
    try:
        dataset = load_collection(collection, root)
    except DataError:
        download_collection(collection, root, progress=True)
        dataset = load_collection(collection, root)
    groups = f" in {len(set(dataset.groups))} groups" if dataset.groups else ""
    click.echo(f"{name}: {len(dataset):,} images of {len(dataset.class_names):,} classes{groups}")
    if root is not None:
        click.echo(f"Use it with: {name} --root {root}")


def _ladder_leaks(ladder: Ladder, check: PoolCheck) -> tuple[Leak, ...]:
    """Per rung, the test images with a copy in training."""
    from oodml.data.check import leaks

    dataset, rows = _built_on(ladder, check)
    sides = [
        (dataset.of_classes(rung.train_classes), dataset.of_classes(rung.test_classes))
        for rung in ladder.rungs
    ]
    return leaks(
        check.duplicates,
        check.dataset.sample_names,
        [(rows[train], rows[test]) for train, test in sides],
    )


def _built_on(ladder: Ladder, check: PoolCheck) -> tuple[Dataset, Integers]:
    """The images that the ladder was built on, all or those that decode, and their rows.

    Raises `DataError` if it was built on neither.
    """
    import numpy as np

    dataset = check.dataset
    for rows in (np.arange(len(dataset)), check.decoding):
        part = dataset.take(rows)
        if part.fingerprint == ladder.features.fingerprint:
            return part, rows
    if ladder.measured or not set(ladder.class_sizes) <= set(dataset.class_names):
        raise DataError(
            f"the ladder was built for dataset {ladder.features.dataset!r} with fingerprint "
            f"{ladder.features.fingerprint or 'unknown'}, but {dataset.source} has "
            f"{dataset.fingerprint}; name the images that the ladder was built on."
        )
    return dataset, np.arange(len(dataset))
