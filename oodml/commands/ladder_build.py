"""`oodml ladder build` and `oodml ladder pair`: ladders made from features."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.kinds import Draws, Number
from oodml.commands.options import (
    FILE,
    data_options,
    level_option,
    network_options,
    open_features,
    refuse_features_as_images,
    refuse_to_replace,
    resolved_source,
)
from oodml.commands.terminal import echo

if TYPE_CHECKING:
    from oodml.splits.ladder import Step


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers with commas between them, such as 20,40,60."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers as a tuple; a usage error for anything else."""
        if isinstance(value, (list, tuple)):
            value = ",".join(map(str, value))
        try:
            numbers = tuple(self.kind(part) for part in str(value).split(",") if part.strip())
            if not all(map(math.isfinite, numbers)):
                raise ValueError
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a list of numbers such as 20,40,60.", param, ctx)
        return numbers


@click.command()
@click.argument("source")
@click.option(
    "-o", "--output", type=FILE, default="ladder.json", show_default=True, help="Ladder to write."
)
@click.option(
    "--rungs", type=click.IntRange(2), help="Number of splits, evenly spaced in FID  [default: 8]"
)
@click.option("--fids", type=Numbers(float), help="Rungs nearest to these FIDs, such as 20,40,60.")
@click.option(
    "--steps",
    type=Numbers(int),
    help="Rungs at these steps from the start, such as 0,6,16; negative is easier.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random choice.")
@click.option(
    "--train-fraction",
    type=Number(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of train classes.",
)
@click.option("--start", help="Start split: CSV (class,side), LADDER.json:RUNG or FILE.pkl:SPLIT.")
@click.option(
    "--by",
    type=click.Choice(["class", "group"]),
    default="class",
    show_default=True,
    help="What moves: single classes or whole superclasses.",
)
@click.option(
    "--level",
    type=click.Choice(["sample", "class"]),
    help="Gaussians of all images, or of the class means  [default: sample; class for milbich2021]",
)
@click.option(
    "--search",
    type=click.Choice(["means", "transport", "best", "milbich2021"]),
    default="means",
    show_default=True,
    help="What moves: by means, on by transport, the best found; or the published way.",
)
@click.option(
    "--budget", type=click.IntRange(0), help="Distances that --search best may take  [default: 400]"
)
@click.option(
    "--easier/--no-easier", default=True, show_default=True, help="Walk below the start too."
)
@click.option(
    "--swap-size", type=click.IntRange(1), help="Units a side in one step  [default: 2% of a side]"
)
@click.option(
    "--min-classes", type=click.IntRange(2), help="Classes a side to keep  [default: 60% of a side]"
)
@click.option(
    "--null",
    "null_draws",
    type=Draws(),
    default=20,
    show_default=True,
    help="Random splits of the same sizes to compare each rung with; 0 for none.",
)
@data_options
@network_options
def build(
    source: str,
    output: Path,
    rungs: int | None,
    fids: tuple[float, ...] | None,
    steps: tuple[int, ...] | None,
    start: str | None,
    null_draws: int,
    **options: Any,
) -> None:
    """Build a ladder from SOURCE and write it as JSON.

    SOURCE is a folder of class folders, a CSV or Parquet file with path,label[,group], the name of
    a collection, hf:OWNER/NAME of Hugging Face, or a feature file (.npz).
    """
    from tqdm import tqdm

    from oodml.commands.ladder_show import show_ladder
    from oodml.splits.build.construction import build_ladder, check_choices
    from oodml.splits.build.start import check_start, read_start

    settings = {name: options.pop(name) for name in _SETTINGS}
    # What can be said without the images is said before hours go into them.
    refuse_features_as_images(source)
    refuse_to_replace(output, source)
    chosen: dict[str, Any] = {
        "rungs": rungs,
        "fids": fids or (),
        "steps": steps or (),
        "null": null_draws,
    }
    check_choices(
        settings["search"], settings["level"], settings["by"], budget=settings["budget"], **chosen
    )
    if start is not None:
        check_start(start)
    features = open_features(source, **options)
    with tqdm(desc="ladder", unit=" steps") as bar:
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


_SETTINGS = (
    "seed", "train_fraction", "by", "level", "search", "budget", "easier", "swap_size",
    "min_classes",
)  # fmt: skip


def advance(bar: Any, step: Step) -> None:
    """Move a progress bar by one step of a trajectory."""
    bar.set_postfix_str(f"{step.kind}, FID {step.fid:.2f}", refresh=False)
    bar.update()


@click.command()
@click.argument("train")
@click.argument("test")
@click.option(
    "-o", "--output", type=FILE, default="pair.json", show_default=True, help="Ladder to write."
)
@click.option("--beside", type=FILE, help="Ladder of TRAIN or TEST to put the rung into.")
@click.option(
    "--save-features", type=FILE, help="Features of both (.npz), for `oodml run --data FILE`."
)
@level_option
@data_options
@network_options
def pair(
    train: str,
    test: str,
    output: Path,
    beside: Path | None,
    save_features: Path | None,
    level: str,
    **options: Any,
) -> None:
    """Make a rung that trains on the classes of TRAIN and tests on those of TEST.

    Both are folders of class folders, CSVs, collection names or feature files (.npz); classes of
    the same name in both are left out.
    """
    from oodml.commands.ladder_show import show_ladder
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
