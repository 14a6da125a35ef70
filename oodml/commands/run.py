"""`oodml run` and `oodml train`: the grid, and one run of it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.grid import (
    check_writable,
    equal_gallery_options,
    keep_ladder,
    kept_of,
    plan_of,
    print_outcome,
    print_plan,
    print_protocol,
    resources_for,
    run_with_progress,
)
from oodml.commands.grid_options import grid_options
from oodml.commands.launch_options import is_first_process, launch_options, launching, workers_for
from oodml.commands.options import FILE, FOLDER, SEEDS
from oodml.commands.terminal import echo

if TYPE_CHECKING:
    from oodml.runs.spec import RunSpec
    from oodml.splits.ladder import Ladder


@click.command()
@click.argument("ladder", type=FILE)
@click.option(
    "-o", "--output", type=FOLDER, default="results", show_default=True, help="Folder of the runs."
)
@click.option("--seeds", type=SEEDS, default=3, show_default=True, help="Number.")
@click.option("--rung", "rungs", type=int, multiple=True, help="Only this rung; repeatable.")
@click.option(
    "--equal-gallery", is_flag=True, help="Evaluate every rung on equally many classes and images."
)
@click.option(
    "--grid", "grid_files", type=FILE, multiple=True,
    help="TOML file with [[grid]] tables in place of, or beside, -m; repeatable.",
)  # fmt: skip
@click.option("--filter", "filter_text", help="Only these runs: method=margin,arcface,rung=0-3.")
@click.option(
    "--order",
    type=click.Choice(["curves", "seeds"]),
    default="curves",
    show_default=True,
    help="Whole curves of one seed first, or all seeds of a rung first.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and what it costs, and stop.")
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
    """Do every run of methods x rungs x seeds that DIR does not hold yet.

    Start it again, or start it more than once, to go on: each run is done once.
    """
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder
    from oodml.train.plan import filtered, ordered

    built = Ladder.load(ladder)
    with _speaking_once():
        specs = specs_of(built, options)
        specs = ordered(filtered(specs, built, filter_text) if filter_text else specs, order)
        store = Store(output)
        if not dry_run:
            check_writable(output)
        options["workers"] = options["workers"] or workers_for(specs)
        print_plan(specs, store, retries=options["retries"], workers=options["workers"])
        if dry_run:
            return
        how = launching(options)
        resources = resources_for(built, options, specs)
        keep_ladder(built, store)
        outcome = run_with_progress(
            specs,
            built,
            resources,
            store,
            plugins=options["plugins"],
            keep_embeddings=kept_of(specs, options),
            keep_pair_weights=options["keep_pair_weights"],
            **how,
        )
        print_outcome(outcome, store)


def specs_of(ladder: Ladder, options: dict[str, Any]) -> list[RunSpec]:
    """The runs of the command line's own methods and of every grid file, each once."""
    from oodml.commands.grid_file import read_grids

    tables = [table for path in options["grid_files"] for table in read_grids(path, run_command)]
    own = {"seeds": options["seeds"], "rungs": options["rungs"]}
    found: dict[str, RunSpec] = {}
    if options["methods"] or not tables:
        found |= _planned(ladder, options, **own, equal_gallery=options["equal_gallery"])
    for table in tables:
        found |= _planned(
            ladder,
            {**options, **table.options, "methods": table.methods},
            seeds=table.seeds or own["seeds"],
            rungs=table.rungs or own["rungs"],
            equal_gallery=(
                options["equal_gallery"] if table.equal_gallery is None else table.equal_gallery
            ),
        )
    return list(found.values())


def _planned(
    ladder: Ladder,
    options: dict[str, Any],
    *,
    seeds: int,
    rungs: Sequence[int],
    equal_gallery: bool,
) -> dict[str, RunSpec]:
    if equal_gallery:
        options = options | equal_gallery_options(ladder, range(seeds))
    print_protocol(options)
    return {spec.id: spec for spec in plan_of(ladder, range(seeds), rungs, options)}


@contextmanager
def _speaking_once() -> Iterator[None]:
    """Of the processes of torchrun only the first one is heard."""
    if is_first_process():
        yield
        return
    logging.disable(logging.ERROR)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@click.command()
@click.argument("ladder", type=FILE)
@click.option(
    "-o", "--output", type=FOLDER, default="results", show_default=True, help="Folder of the runs."
)
@click.option("--rung", type=int, required=True, help="The rung to train and test on.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the run.")
@grid_options
def train_command(ladder: Path, output: Path, rung: int, seed: int, **options: Any) -> None:
    """Do one run per method on one rung and print what was measured."""
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder

    built = Ladder.load(ladder)
    print_protocol(options)
    specs = plan_of(built, [seed], [rung], options)
    store = Store(output)
    check_writable(output)
    resources = resources_for(built, options, specs)
    keep_ladder(built, store)
    outcome = run_with_progress(
        specs,
        built,
        resources,
        store,
        plugins=options["plugins"],
        keep_embeddings=kept_of(specs, options),
        keep_pair_weights=options["keep_pair_weights"],
    )
    for spec in specs:
        record = store.record(spec.id)
        if record is not None:
            echo(f"{record.label} {json.dumps(record.metrics, sort_keys=True)}")
    print_outcome(outcome, store)
