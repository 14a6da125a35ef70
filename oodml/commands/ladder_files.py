"""`oodml ladder import` and `export`: the published split files, CSV and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import (
    FILE,
    IMAGE_SIDE,
    data_options,
    machine_options,
    open_dataset,
    refuse_to_replace,
    resolved_source,
)
from oodml.commands.terminal import echo
from oodml.errors import UsageError

if TYPE_CHECKING:
    from oodml.splits.episodes import LabelledSamples
    from oodml.splits.ladder import Ladder


@click.command(name="import")
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=FILE, default="ladder.json", show_default=True,
              help="Ladder to write.")  # fmt: skip
@click.option("--data", help="SOURCE of the images (or a feature file) to match the classes with.")
@click.option("--backbone", help="Network to measure the splits with; their FIDs stay beside.")
@click.option("--image-size", type=IMAGE_SIDE, help="Side of the network's input.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32",
              show_default=True, help="Precision of the network.")  # fmt: skip
@click.option("--level", type=click.Choice(["class", "sample"]), default="class",
              show_default=True, help="FID level to measure at.")  # fmt: skip
@data_options
@machine_options
def import_command(
    file: Path,
    output: Path,
    data: str | None,
    backbone: str | None,
    level: str,
    root: Path | None,
    skip_broken: bool,
    **network: Any,
) -> None:
    """Make a ladder of the splits in FILE, a published pickle or a CSV (rung,fid,side,class).

    Nothing in a pickle is executed. Without --data its FIDs stay as published; with it the class
    names are matched to those of the data; a --backbone, or a feature file as data, measures the
    splits anew.
    """
    from oodml.commands.ladder_show import show_ladder
    from oodml.splits.exchange import imported_ladder, read_splits

    refuse_to_replace(output, file, data)
    if backbone and not data:
        raise UsageError("--backbone measures images; name them with --data SOURCE.")
    ladder = imported_ladder(read_splits(file), file.stem)
    if data is not None:
        ladder = _on_data(ladder, data, root, skip_broken, backbone, level, network)
    ladder.save(output)
    show_ladder(ladder, "text", 0)
    if not ladder.measured:
        echo(
            "These FIDs are as published: between class means, in ResNet-50 features. They do not "
            "compare with FIDs measured here; measure with --data SOURCE --backbone NAME."
        )
    echo(f"written to {output}")


def _on_data(
    ladder: Ladder,
    data: str,
    root: Path | None,
    skip_broken: bool,
    backbone: str | None,
    level: str,
    network: dict[str, Any],
) -> Ladder:
    from oodml.features.extraction import extract_features
    from oodml.features.features import Features
    from oodml.splits.exchange import match_classes, remeasured, with_data

    samples: LabelledSamples
    features: Features | None = None
    if data.endswith(".npz"):
        if backbone:
            raise UsageError(f"{data} holds features already; leave --backbone out.")
        samples = features = Features.load(data)
    else:
        samples = dataset = open_dataset(data, root, skip_broken)
        if backbone:
            features = extract_features(dataset, backbone, progress=True, **network)
    match = match_classes(ladder.class_sizes, samples.class_names)
    ladder = with_data(ladder, match, samples, resolved_source(data))
    echo(match.report())
    return ladder if features is None else remeasured(ladder, features, level)


@click.command()
@click.argument("ladder", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="File to write.")
@click.option("--format", "file_format", type=click.Choice(["csv", "json", "pickle"]),
              required=True, help="Form of the file.")  # fmt: skip
@click.option("--data", help="SOURCE of the samples that episodes name (pickle only).")
@click.option("--seed", type=int, default=0, show_default=True,
              help="Seed of validation classes and episodes.")  # fmt: skip
@data_options
def export(
    ladder: Path,
    output: Path,
    file_format: str,
    data: str | None,
    seed: int,
    root: Path | None,
    skip_broken: bool,
) -> None:
    """Write LADDER as CSV, as JSON or as a pickle that the authors' loaders read."""
    from oodml.features.features import Features
    from oodml.splits.exchange import export_ladder
    from oodml.splits.ladder import Ladder

    refuse_to_replace(output, ladder, data)
    samples: LabelledSamples | None = None
    if data is not None:
        named = data.endswith(".npz")
        samples = Features.load(data) if named else open_dataset(data, root, skip_broken)
    built = Ladder.load(ladder)
    export_ladder(built, output, file_format, samples, seed=seed)
    if file_format == "pickle" and samples is None and not built.episodes:
        echo("without episodes, which name images; --data SOURCE adds them", err=True)
    echo(f"written to {output}")
