"""`oodml ladder import`, `measure`, `export`, `compare` and `plot`: ladders that exist already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.ladder import show_ladder
from oodml.commands.opening import (
    check_fingerprint,
    ladder_source,
    matched,
    open_dataset,
    open_for_ladder,
    open_samples,
    resolved_source,
)
from oodml.commands.options import (
    FILE,
    data_options,
    image_size_option,
    ladder_data_option,
    machine_options,
    null_option,
    precision_option,
    refuse_features_as_images,
    refuse_to_replace,
    refuse_typed,
    resize_option,
    text_or_json_option,
    together,
)
from oodml.commands.results import check_charts
from oodml.commands.tables import Table, echo, json_text
from oodml.errors import DataError, UsageError

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.splits.compare import LadderAgreement
    from oodml.splits.ladder import Ladder


ruler_options = together(
    click.option("--backbone", help="Network to measure with; `oodml list backbones` names them."),
    click.option(
        "--level",
        type=click.Choice(["sample", "class"]),
        show_default="the ladder's, class for a CSV",
        help="Points of the Gaussians: all images, or class means.",
    ),
    null_option,
    image_size_option,
    resize_option,
    precision_option,
    data_options,
    machine_options,
)
# What says something only where splits are measured.
_MEASURING = (
    "level", "null", "image_size", "resize", "precision", "weights", "batch_size", "device",
    "cache",
)  # fmt: skip


@click.command()
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=FILE, default="ladder.json", help="Ladder to write.")
@click.option("--data", help="SOURCE of the images, or a feature file, to match the classes with.")
@ruler_options
def import_command(file: Path, output: Path, data: str | None, **options: Any) -> None:
    """Make a ladder of published splits or a CSV.

    FILE is a published pickle, in which nothing is executed, or a CSV (rung,fid,side,class) whose
    side is train, validation or test: validation classes are training classes that are held out to
    choose by. Without --data the FIDs stay those of the file; with it the class names are matched
    to those of the data; a --backbone, or a feature file as data, measures the splits as `oodml
    ladder measure` does.
    """
    from oodml.splits.exchange import imported_ladder, is_csv, read_splits

    refuse_to_replace(output, file, data)
    if options["backbone"] and not data:
        raise UsageError("--backbone measures images; name them with --data SOURCE.")
    if not options["backbone"] and not (data or "").endswith(".npz"):
        refuse_typed(_MEASURING, "without --data SOURCE --backbone NAME nothing is measured")
    ladder = imported_ladder(read_splits(file), file.stem, published=not is_csv(file))
    if data is not None:
        ladder = _on_data(ladder, data, **options)
    ladder.save(output)
    show_ladder(ladder, "text", 0)
    if not ladder.measured:
        made = (
            "are as the file gives them, which does not state level and network"
            if is_csv(file)
            else "are as published: between class means, in ResNet-50 features"
        )
        echo(
            f"These FIDs {made}. They do not compare with FIDs measured here; `oodml ladder "
            f"measure {output} --data SOURCE --backbone NAME` measures the splits."
        )
    echo(f"written to {output}")


@click.command()
@click.argument("ladder", type=FILE)
@click.option("-o", "--output", type=FILE, default="measured.json", help="Ladder to write.")
@ladder_data_option
@ruler_options
def measure_command(ladder: Path, output: Path, data: str | None, **options: Any) -> None:
    """Measure the splits of a ladder with another network.

    The splits stay as they are; FID, null and excess are those of --backbone, or of the features in
    a file given with --data, and put the rungs in order. The FIDs that the ladder came with are
    kept beside them. Runs on the new ladder need a directory of their own: rulers never mix.
    """
    from oodml.splits.ladder import Ladder

    refuse_to_replace(output, ladder, data)
    loaded = Ladder.load(ladder)
    source = ladder_source(loaded, data)
    if source.endswith(".npz"):
        if data is None and options["backbone"]:
            raise DataError(
                f"the ladder's data is {source}, which holds features of "
                f"{loaded.features.backbone} already; name the images, or features of another "
                "network, with --data SOURCE."
            )
    elif not options["backbone"]:
        raise UsageError(
            "name the network with --backbone; `oodml list backbones` says what each is."
        )
    measured = _on_data(loaded, source, **options)
    measured.save(output)
    show_ladder(measured, "text", 0)
    echo(f"written to {output}")


def _on_data(
    ladder: Ladder,
    data: str,
    *,
    root: Path | None,
    skip_broken: bool,
    backbone: str | None,
    level: str | None,
    null: int,
    **network: Any,
) -> Ladder:
    """The ladder on the data that is named, measured if that is features or there is a backbone.

    Splits that came without data are matched to its classes by name.
    """
    from oodml.features.extraction import extract_features
    from oodml.features.features import Features
    from oodml.splits.measure import measure_ladder

    refuse_features_as_images(data)
    samples = open_samples(data, root, skip_broken)
    if ladder.features.fingerprint:
        own = samples.source if isinstance(samples, Features) else samples
        check_fingerprint(ladder, data, own.fingerprint)
        ladder = replace(ladder, source=resolved_source(data))
    else:
        ladder = matched(ladder, samples, data)
    if isinstance(samples, Features):
        features = samples
    elif backbone:
        features = extract_features(samples, backbone, progress=True, **network)
    else:
        return ladder
    return measure_ladder(ladder, features, level=level, null=null)


@click.command()
@click.argument("ladder", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="File to write.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "json", "pickle"]),
    required=True,
    help="Format of the file.",
)
@click.option("--data", help="SOURCE of the samples that episodes name (pickle only).")
@click.option("--seed", type=int, default=0, help="Seed of validation classes and episodes.")
@data_options
def export_command(
    ladder: Path,
    output: Path,
    file_format: str,
    data: str | None,
    seed: int,
    root: Path | None,
    skip_broken: bool,
) -> None:
    """Write a ladder as CSV, JSON or a pickle.

    The CSV has a line a class, rung,fid,side,class, with rungs from 0. Its side is train,
    validation or test: validation classes are a quarter of the training classes, held out to choose
    by, so a rung trains on its train and its validation lines. The pickle counts rungs from 1, and
    the study's own loaders read it.
    """
    from oodml.splits.exchange import export_ladder
    from oodml.splits.ladder import Ladder

    refuse_to_replace(output, ladder, data)
    samples = None if data is None else open_samples(data, root, skip_broken)
    loaded = Ladder.load(ladder)
    export_ladder(loaded, output, file_format, samples, seed=seed)
    if file_format == "pickle" and samples is None and not loaded.episodes:
        echo("without episodes, which name images; --data SOURCE adds them", err=True)
    echo(f"written to {output}")


@click.command()
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@click.option("--keys", is_flag=True, help="Also correlate the keys of the classes (features).")
@ladder_data_option
@text_or_json_option
@data_options
@machine_options
def compare_command(
    first: Path,
    second: Path,
    keys: bool,
    data: str | None,
    text_format: str,
    **options: Any,
) -> None:
    """Compare FID curves and class lists of two ladders."""
    from oodml.splits.compare import compare_ladders
    from oodml.splits.ladder import Ladder

    ladders = Ladder.load(first), Ladder.load(second)
    features = None
    if keys:
        opened = [open_for_ladder(each, data, images=False, **options)[0] for each in ladders]
        features = (opened[0], opened[1])
    agreement = compare_ladders(*ladders, features)
    if text_format == "json":
        echo(json_text(agreement.to_json()))
    else:
        _print_agreement(agreement, keys)


def _print_agreement(agreement: LadderAgreement, keys: bool) -> None:
    columns = ["rung", "height", "other rung", "other height", "train", "test", "moved", "chance"]
    rows = [
        [r.rung, r.height, r.other_rung, r.other_height, r.jaccard_train, r.jaccard_test,
         r.jaccard_moved, r.chance]
        for r in agreement.rungs
    ]  # fmt: skip
    echo(f"first   {agreement.labels[0]}\nother   {agreement.labels[1]}\n")
    echo(Table(columns, rows).render("text"))
    starts = {True: "the same split", False: "different splits", None: "splits not both known"}
    correlation = agreement.key_correlation
    echo(
        "\nheight: FID scaled to [0, 1] over a ladder's own trajectory, beside the rung of nearest "
        "height.\ntrain, test, moved: Jaccard index of the class lists, moved since the start; "
        f"chance: of random splits.\nThe ladders start from {starts[agreement.same_start]}. Root "
        "mean square distance of the scaled FID curves: "
        f"{agreement.curve_distance:.3f}."
    )
    if correlation is not None:
        echo(f"Spearman correlation of the classes' keys at the start: {correlation:.3f}.")
    elif not keys:
        echo("Add --keys to correlate the classes' keys (reads both ladders' features).")


@click.command()
@click.argument("ladder", type=FILE)
@click.option(
    "-o", "--output", type=FILE, required=True, help="Chart to write (.png, .svg or .pdf)."
)
@click.option(
    "--view",
    type=click.Choice(["trajectory", "projection", "composition", "moves"]),
    default="trajectory",
    help="FID along the walk; class means in a plane; groups per side; moved classes as images.",
)
@click.option(
    "--projection",
    type=click.Choice(["pca", "umap"]),
    show_default="pca",
    help="Projection of the class means (--view projection).",
)
@click.option(
    "--most", type=click.IntRange(1), show_default="12", help="Images per strip (--view moves)."
)
@ladder_data_option
@data_options
@machine_options
def plot_command(
    ladder: Path,
    output: Path,
    view: str,
    projection: str | None,
    most: int | None,
    data: str | None,
    **options: Any,
) -> None:
    """Draw a ladder; most views need its data."""
    from oodml.eval.figures.class_plane import plot_projection
    from oodml.eval.figures.ladder import plot_composition, plot_moves, plot_trajectory
    from oodml.splits.ladder import Ladder

    check_charts([output])
    if projection is not None and view != "projection":
        raise UsageError(f"--projection says nothing about {view}; add --view projection.")
    if most is not None and view != "moves":
        raise UsageError(f"--most says nothing about {view}; add --view moves.")
    loaded = Ladder.load(ladder)
    if view == "trajectory":
        plot_trajectory(loaded, output)
    elif view == "projection":
        features, _ = open_for_ladder(loaded, data, images=False, **options)
        plot_projection(loaded, features, output, projection=projection or "pca")
    elif view == "composition":
        plot_composition(loaded, _groups(loaded, data, options), output)
    else:
        plot_moves(loaded, _images(loaded, data, options), output, most=most or 12)
    echo(f"written to {output}")


def _groups(ladder: Ladder, data: str | None, options: dict[str, Any]) -> dict[str, str]:
    """The group of every class."""
    source = ladder_source(ladder, data)
    opened = open_samples(source, options["root"], options["skip_broken"])
    if opened.groups is None:
        raise DataError(f"{source} knows no groups of classes, so there is no composition to draw.")
    return dict(zip(opened.class_names, opened.groups, strict=True))


def _images(ladder: Ladder, data: str | None, options: dict[str, Any]) -> Dataset:
    source = ladder_source(ladder, data)
    if source.endswith(".npz"):
        raise DataError(f"moved classes are drawn as images, and {source} holds features.")
    return open_dataset(source, options["root"], options["skip_broken"])
