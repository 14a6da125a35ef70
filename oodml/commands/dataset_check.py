"""`oodml dataset check`: what is wrong with a pool of images."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click

from oodml.commands.dataset_leaks import ladder_leaks, open_ladder
from oodml.commands.options import FILE, FOLDER, refuse_to_replace
from oodml.errors import DataError


@click.command()
@click.argument("source")
@click.option("--root", type=FOLDER, help="Folder that relative paths of a CSV start from.")
@click.option("--max-distance", type=click.IntRange(0, 64), default=8, show_default=True,
              metavar="BITS", help="Bits of 256 that the hashes of near duplicates may differ "
              "in.")  # fmt: skip
@click.option("--ladder", type=FILE, help="Also count test images with a copy in training, a rung.")
@click.option("--format", "report_format", type=click.Choice(["text", "json"]), default="text",
              show_default=True, help="Form of what is printed.")  # fmt: skip
@click.option("-o", "--output", type=FILE, help="File for the report instead of the screen.")
@click.option("--strict", is_flag=True, help="Exit with 1 if anything was found.")
@click.pass_context
def check_command(
    ctx: click.Context,
    source: str,
    root: Path | None,
    max_distance: int,
    ladder: Path | None,
    report_format: str,
    output: Path | None,
    strict: bool,
) -> None:
    """Look for duplicates, broken images and classes too small in SOURCE.

    SOURCE is a folder of class folders, a CSV or Parquet file with path,label[,group], the name of
    a collection, or hf:OWNER/NAME of Hugging Face. Nothing is changed, and the check goes on where
    other commands refuse the pool. Text shows the first of every list, JSON all. Exit status 0, or
    1 with --strict if anything was found.
    """
    from oodml.data.check import check_dataset, report_lines

    if source.endswith(".npz"):
        raise DataError(f"{source} holds features; name the images that they were made of.")
    refuse_to_replace(output, source, ladder)
    opened = None if ladder is None else open_ladder(ladder)
    check = check_dataset(source, root=root, max_distance=max_distance, progress=True)
    report = check.report
    if opened is not None:
        report = replace(report, ladder=ladder_leaks(opened, check))
    if report_format == "json":
        _put([json.dumps(report.to_json(), ensure_ascii=False, indent=2)], output)
    else:
        _put(report_lines(report), output)
    ctx.exit(1 if strict and not report.sound else 0)


def _put(lines: Iterable[str], output: Path | None) -> None:
    from oodml.files import atomic_write

    if output is None:
        click.echo("\n".join(lines))
        return
    with atomic_write(output) as file:
        file.write("\n".join(lines).encode() + b"\n")
