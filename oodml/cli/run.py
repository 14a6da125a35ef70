"""`oodml run` and `oodml train`: the grid, and one run of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.cli.options import (
    FILE,
    FOLDER,
    data_options,
    default_workers,
    machine_options,
    open_for_ladder,
    together,
)
from oodml.errors import DataError
from oodml.train.settings import SETTINGS, Setting

if TYPE_CHECKING:
    from oodml.launch import GridOutcome
    from oodml.splits.ladder import Ladder
    from oodml.store import RunSpec, Store
    from oodml.train.build import Resources

def _option(setting: Setting) -> Callable[[Any], Any]:
    """The option of one setting; what it is without it follows from method and protocol."""
    default = setting.default
    if isinstance(default, bool):
        name = setting.flag.removeprefix("--")
        kind: dict[str, Any] = {"default": None, "is_flag": True}
        flag = f"--{name}/--no-{name}"
    else:
        flag = setting.flag
        choices = [choice for choice in setting.choices if choice]
        kind = {"type": click.Choice(choices) if choices else type(default)}
    shown = f"  [default: {default}]" if not isinstance(default, bool) and default != "" else ""
    return click.option(flag, setting.parameter, help=setting.help + shown, **kind)


setting_options = together(*(_option(setting) for setting in SETTINGS.values()))

grid_options = together(
    click.option("--data", help="SOURCE of the ladder's data  [default: as the ladder remembers]"),
    click.option(
        "-m",
        "--method",
        "methods",
        multiple=True,
        required=True,
        help="Method, with hyperparameters as margin:beta=0.6; repeatable; `all` for every one.",
    ),
    click.option(
        "--train",
        "trained",
        type=click.Choice(["head", "all"]),
        help="A linear head on frozen features, or the whole network  [default: head]",
    ),
    click.option("--protocol", "preset", help="Published protocol: ooDML or reality-check."),
    click.option(
        "--recipe",
        default="auto",
        show_default=True,
        help="Published settings for cub200, cars196 or sop; auto goes by the data, with"
        " --train all.",
    ),
    setting_options,
    click.option(
        "--keep-embeddings", is_flag=True, help="Keep each run's test embeddings, for galleries."
    ),
    click.option("--plugin", "plugins", type=FILE, multiple=True, help="File with own methods."),
    data_options,
    machine_options,
)


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
    specs = plan_of(built, range(seeds), rungs, options, controls)
    store = Store(output)
    print_plan(specs, store)
    if dry_run:
        return
    resources = resources_for(built, options)
    keep_ladder(built, store)
    outcome = run_with_progress(
        specs, built, resources, store, workers or _workers(options), options["plugins"]
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
    specs = plan_of(built, [seed], [rung], options)
    store = Store(output)
    resources = resources_for(built, options)
    keep_ladder(built, store)
    outcome = run_with_progress(specs, built, resources, store, 1)
    for spec in specs:
        record = store.record(spec.id)
        if record is not None:
            click.echo(f"{record.label} {json.dumps(record.metrics, sort_keys=True)}")
    print_outcome(outcome, store)


def equal_gallery_options(ladder: Ladder, seeds: Sequence[int], controls: bool) -> dict[str, int]:
    """The gallery size that every rung has."""
    from oodml.splits.gallery import equal_gallery

    classes, images = equal_gallery(ladder, seeds, controls)
    click.echo(f"every rung is evaluated on {classes} classes with {images} images")
    return {"gallery_classes": classes, "gallery_images": images}


def plan_of(
    ladder: Ladder,
    seeds: Sequence[int],
    rungs: Sequence[int],
    options: dict[str, Any],
    controls: bool = False,
) -> list[RunSpec]:
    """The run specs that the grid options ask for."""
    from oodml.train.plan import plan
    from oodml.train.registry import all_methods, load_plugin

    for path in options["plugins"]:
        load_plugin(path)
    methods = [
        name
        for method in options["methods"]
        for name in (all_methods() if method == "all" else [method])
    ]
    given = {name: options[setting.parameter] for name, setting in SETTINGS.items()}
    settings = {name: value for name, value in given.items() if value is not None}
    return plan(
        ladder,
        methods,
        seeds,
        train=options["trained"] or "",
        preset=options["preset"] or "",
        recipe=options["recipe"],
        rungs=rungs or None,
        controls=controls,
        **settings,
    )


def resources_for(ladder: Ladder, options: dict[str, Any]) -> Resources:
    """The features (and for whole networks the images and the backbone) of a ladder."""
    from oodml.fid.backbone import load_backbone
    from oodml.train.build import Resources

    whole = trains_networks(options)
    machine = {key: options[key] for key in ("weights", "batch_size", "device", "cache")}
    features, dataset = open_for_ladder(
        ladder,
        options["data"],
        root=options["root"],
        skip_broken=options["skip_broken"],
        images=whole,
        **machine,
    )
    made = ladder.features
    backbone = (
        load_backbone(
            made.backbone,
            weights=options["weights"],
            image_size=made.image_size,
            resize=made.resize,
        )
        if whole
        else None
    )
    device = options["device"] or _device(whole)
    return Resources(features, dataset if whole else None, backbone, device)


def _device(whole: bool) -> str:
    """Heads are trained on the CPU, where they are exact and quick; networks on a GPU if any."""
    import torch

    return "cuda" if whole and torch.cuda.is_available() else "cpu"


def trains_networks(options: dict[str, Any]) -> bool:
    """Whether whole networks are trained, by the user's or the protocol's word."""
    from oodml.train.plan import Wishes

    return Wishes(options["trained"] or "", options["preset"] or "").trained == "all"


def _workers(options: dict[str, Any]) -> int:
    return 1 if trains_networks(options) else default_workers()


def keep_ladder(ladder: Ladder, store: Store) -> None:
    """Put the ladder beside the runs; `DataError` if another one is there already."""
    from oodml.splits.ladder import Ladder

    path = store.directory / "ladder.json"
    if not path.exists():
        ladder.save(path)
    elif Ladder.load(path).to_json()["rungs"] != ladder.to_json()["rungs"]:
        raise DataError(f"{store.directory} holds the runs of another ladder; give another -o DIR.")


def print_plan(specs: Sequence[RunSpec], store: Store) -> None:
    """Say how many runs there are, and how many are left."""
    done = sum(store.is_done(spec.id) for spec in specs)
    failed = sum(store.error(spec.id) is not None for spec in specs)
    single = sorted({spec.label for spec in specs if spec.train == "none"})
    click.echo(
        f"{len(specs)} runs: {len({s.label for s in specs})} methods x "
        f"{len({s.split for s in specs})} splits x {len({s.seed for s in specs})} seeds"
        + (f" (one seed for {', '.join(single)}: nothing is random there)" if single else "")
    )
    click.echo(f"{done} done, {failed} failed before, {len(specs) - done} to go")


def run_with_progress(
    specs: Sequence[RunSpec],
    ladder: Ladder,
    resources: Resources,
    store: Store,
    workers: int,
    plugins: Sequence[Path] = (),
) -> GridOutcome:
    """Do the grid under a progress bar."""
    from tqdm import tqdm

    from oodml.launch import run_grid

    done = sum(store.is_done(spec.id) for spec in specs)
    with tqdm(total=len(specs), initial=done, desc="runs", unit="run") as bar:
        return run_grid(
            specs,
            ladder,
            resources,
            store,
            workers=workers,
            plugins=plugins,
            on_progress=lambda count: bar.update(count - bar.n),
        )


def print_outcome(outcome: GridOutcome, store: Store) -> None:
    """Say where the results are; `DataError` if runs failed or are missing."""
    if outcome.failed or outcome.missing:
        first = (outcome.failed or outcome.missing)[0]
        raise DataError(
            f"{outcome.done} runs done, {len(outcome.failed)} failed, {len(outcome.missing)} "
            f"missing; see {store.run_directory(first) / 'error.txt'} and start again to go on."
        )
    click.echo(f"{outcome.done} runs done, in {store.directory}")
