"""`oodml run` and `oodml train`: the grid, and one run of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from oodml.cli.grid import (
    equal_gallery_options,
    keep_ladder,
    kept_of,
    plan_of,
    print_outcome,
    print_plan,
    print_protocol,
    resources_for,
    run_with_progress,
    workers_for,
)
from oodml.cli.grid_options import grid_options
from oodml.cli.options import FILE, FOLDER


@click.command()
@click.argument("ladder", type=FILE)
@click.option("-o", "--output", type=FOLDER, default="results", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Number.")
@click.option("--rung", "rungs", type=int, multiple=True, help="Only this rung; repeatable.")
@click.option("--workers", type=click.IntRange(1), help="Processes  [default: one per core]")
@click.option("--controls", is_flag=True, help="Also on the size-matched control of every rung.")
@click.option(
    "--equal-gallery", is_flag=True, help="Evaluate on as many classes and images on every rung."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@grid_options
def run_command(
    ladder: Path,
    output: Path,
    seeds: int,
    rungs: Sequence[int],
    workers: int | None,
    controls: bool,
    equal_gallery: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Do every run of methods x rungs x seeds that DIR does not hold yet.

    Start it again, or start it more than once, to go on: each run is done once.
    """
    from oodml.splits.ladder import Ladder
    from oodml.store import Store

    built = Ladder.load(ladder)
    if equal_gallery:
        options |= equal_gallery_options(built, range(seeds), controls)
    print_protocol(options)
    specs = plan_of(built, range(seeds), rungs, options, controls)
    store = Store(output)
    print_plan(specs, store)
    if dry_run:
        return
    resources = resources_for(built, options, specs)
    keep_ladder(built, store)
    outcome = run_with_progress(
        specs,
        built,
        resources,
        store,
        workers or workers_for(options),
        options["plugins"],
        kept_of(specs, options),
    )
    print_outcome(outcome, store)


@click.command()
@click.argument("ladder", type=FILE)
@click.option("-o", "--output", type=FOLDER, default="results", show_default=True)
@click.option("--rung", type=int, required=True, help="The rung to train and test on.")
@click.option("--seed", type=int, default=0, show_default=True)
@grid_options
def train_command(ladder: Path, output: Path, rung: int, seed: int, **options: Any) -> None:
    """Do one run per method on one rung and print what was measured."""
    from oodml.splits.ladder import Ladder
    from oodml.store import Store

    built = Ladder.load(ladder)
    print_protocol(options)
    specs = plan_of(built, [seed], [rung], options)
    store = Store(output)
    resources = resources_for(built, options, specs)
    keep_ladder(built, store)
    outcome = run_with_progress(
        specs, built, resources, store, 1, keep_embeddings=kept_of(specs, options)
    )
    for spec in specs:
        record = store.record(spec.id)
        if record is not None:
            click.echo(f"{record.label} {json.dumps(record.metrics, sort_keys=True)}")
    print_outcome(outcome, store)
