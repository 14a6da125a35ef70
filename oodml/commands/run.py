"""`oodml run` and `oodml train`: a grid of runs, and single runs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.grid import do_grid, plan_of, print_outcome, print_plan, print_protocol
from oodml.commands.opening import open_ladder
from oodml.commands.options import FILE, SEEDS
from oodml.commands.results import check_writable, output_option
from oodml.commands.run_options import (
    grid_options,
    is_first_process,
    launch_options,
    launching,
    workers_for,
)
from oodml.commands.tables import echo
from oodml.errors import UsageError

if TYPE_CHECKING:
    from oodml.runs.spec import RunSpec
    from oodml.splits.ladder import Ladder


@click.command()
@click.argument("ladder", type=FILE)
@output_option
@click.option("--seeds", type=SEEDS, default=3, help="Seeds per method and rung.")
@click.option("--rung", "rungs", type=int, multiple=True, help="Rung to run on; repeatable.")
@click.option(
    "--equal-gallery", is_flag=True, help="Evaluate every rung on equally many classes and images."
)
@click.option(
    "--reference",
    is_flag=True,
    help="Add the matched reference, which tells shift from harder test classes.",
)
@click.option(
    "--reference-null",
    type=click.IntRange(0, 1000),
    default=0,
    help="Random splits of every rung's classes on which the reference is done too.",
)
@click.option(
    "--grid",
    "grid_files",
    type=FILE,
    multiple=True,
    help="TOML file with [[grid]] tables, in place of -m or with it; repeatable.",
)
@click.option("--filter", "filter_text", help="Only these runs: method=margin,arcface,rung=0-3.")
@click.option(
    "--order",
    type=click.Choice(["curves", "seeds"]),
    default="curves",
    help="Whole curves of one seed first, or all seeds of a rung first.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and its cost, and stop.")
@launch_options
@grid_options
def run_command(
    ladder: Path,
    output: Path,
    filter_text: str | None,
    order: str,
    dry_run: bool,
    **options: Any,
) -> None:
    """Do all runs of methods x rungs x seeds.

    Runs that DIR holds already are not done again, so start it again to resume, or start it more
    than once to share the work.
    """
    from oodml.runs.store import Store
    from oodml.train.plan import filtered, ordered

    with _printing_once():
        loaded = open_ladder(ladder, options)
        specs = _specs_of(loaded, options)
        specs = ordered(filtered(specs, loaded, filter_text) if filter_text else specs, order)
        store = Store(output)
        if not dry_run:
            check_writable(output)
        options["workers"] = options["workers"] or workers_for(specs)
        print_plan(specs, store, retries=options["retries"], workers=options["workers"])
        if not dry_run:
            how = launching(options)
            print_outcome(do_grid(specs, loaded, store, options, **how), store)


def _specs_of(ladder: Ladder, options: dict[str, Any]) -> list[RunSpec]:
    """The runs of the command line's own methods and of every grid file, each once."""
    from oodml.commands.grid_file import read_grids

    tables = [table for path in options["grid_files"] for table in read_grids(path, run_command)]
    grids = [{**options}] if options["methods"] or not tables else []
    grids += [{**options, **table.options, "methods": table.methods} for table in tables]
    named = [name for grid in grids for name in grid["backbones"]]
    options["backbones"] = tuple(dict.fromkeys(named))
    for name, _ in options["weights"]:
        if name and name not in named:
            raise UsageError(f"--weights {name}=FILE: no --backbone {name} among the runs.")
    found: dict[str, RunSpec] = {}
    for grid in grids:
        own = [pair for pair in grid["weights"] if pair[0] in ("", *grid["backbones"])]
        found |= _planned(ladder, {**grid, "weights": own})
    return list(found.values())


def _planned(ladder: Ladder, options: dict[str, Any]) -> dict[str, RunSpec]:
    from oodml.splits.equal_size import equal_gallery

    seeds = range(options["seeds"])
    if options["equal_gallery"]:
        classes, images = equal_gallery(ladder, seeds)
        echo(f"every rung is evaluated on {classes} classes with {images} images")
        options = options | {"gallery_classes": classes, "gallery_images": images}
    print_protocol(options)
    return {spec.id: spec for spec in plan_of(ladder, seeds, options["rungs"], options)}


@contextmanager
def _printing_once() -> Iterator[None]:
    """Of the processes of torchrun only the first one prints."""
    if is_first_process():
        yield
        return
    logging.disable(logging.ERROR)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@click.command()
@click.argument("ladder", type=FILE)
@output_option
@click.option("--rung", type=int, required=True, help="Rung to train and test on.")
@click.option("--seed", type=int, default=0, help="Seed of the run.")
@grid_options
def train_command(ladder: Path, output: Path, rung: int, seed: int, **options: Any) -> None:
    """Do one run per method on one rung and print its metrics."""
    from oodml.runs.networks import names_of
    from oodml.runs.store import Store

    loaded = open_ladder(ladder, options)
    print_protocol(options)
    specs = plan_of(loaded, [seed], [rung], options)
    check_writable(output)
    store = Store(output)
    outcome = do_grid(specs, loaded, store, options)
    names = names_of(specs)
    for spec in specs:
        record = store.record(spec.id)
        if record is not None:
            echo(f"{names[spec.id]} {json.dumps(record.metrics, sort_keys=True)}")
    print_outcome(outcome, store)
