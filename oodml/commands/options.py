"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from oodml.commands.kinds import NamedPath, Number
from oodml.errors import DataError, UsageError
from oodml.features.backbones.registry import LEAST_SIDE, MOST_SIDE

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.features import Features
    from oodml.splits.ladder import Ladder

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = NamedPath(dir_okay=False, path_type=Path)
FOLDER = NamedPath(file_okay=False, path_type=Path)
# More seeds than a grid could ever hold: a plan lists every run.
SEEDS = click.IntRange(1, 100_000)
IMAGE_SIDE = click.IntRange(LEAST_SIDE, MOST_SIDE)


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator out of several options, shown in the help in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


data_options = together(
    click.option(
        "--root",
        type=FOLDER,
        help="Folder that relative paths of a table start from, or that holds the collection.",
    ),
    click.option("--skip-broken", is_flag=True, help="Leave out images that do not decode."),
)

machine_options = together(
    click.option(
        "--weights", type=FILE, help="File with the backbone's weights (.pth or .safetensors)."
    ),
    click.option(
        "--batch-size", type=click.IntRange(1), help="Images at once  [default: suits the device]"
    ),
    click.option("--device", help="Device such as cpu or cuda  [default: cuda if there is one]"),
    click.option(
        "--cache", type=FOLDER, help="Folder of cached features  [default: ~/.cache/oodml]"
    ),
)

network_options = together(
    click.option(
        "--backbone",
        default="inception_v3",
        show_default=True,
        help="Frozen network; `oodml list backbones` names them.",
    ),
    click.option(
        "--image-size",
        type=IMAGE_SIDE,
        help="Side of the network's input in pixels  [default: the network's own]",
    ),
    click.option(
        "--resize",
        type=click.Choice(["pytorch-fid", "torch-fidelity", "clean-fid"]),
        help="Whose resizing inception_fid repeats  [default: pytorch-fid]",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default="fp32",
        show_default=True,
        help="Precision of the network.",
    ),
    machine_options,
)

memory_option = click.option(
    "--memory",
    type=Number(0.01, 1e6),
    default=1.0,
    show_default=True,
    help="GiB that retrieval may use; no score depends on it.",
)

level_option = click.option(
    "--level",
    type=click.Choice(["sample", "class"]),
    default="sample",
    show_default=True,
    help="Gaussians of all images, or of the class means.",
)

format_option = click.option(
    "--format",
    "table_format",
    type=click.Choice(["text", "markdown", "latex", "csv", "json"]),
    default="text",
    show_default=True,
    help="Form of what is printed.",
)


def open_dataset(source: str, root: Path | None, skip_broken: bool) -> Dataset:
    """The dataset that a command names."""
    from oodml.data import load_dataset

    return load_dataset(source, root=root, skip_broken=skip_broken, progress=True)


def open_features(
    source: str,
    *,
    root: Path | None,
    skip_broken: bool,
    **network: Any,
) -> Features:
    """The features in a `.npz` file, or those of a dataset under a network."""
    from oodml.features.extraction import extract_features
    from oodml.features.features import Features

    if source.endswith(".npz"):
        return Features.load(source)
    dataset = open_dataset(source, root, skip_broken)
    return extract_features(dataset, progress=True, **network)


def refuse_features_as_images(source: str) -> None:
    """Raise `UsageError` if a network was typed for a file that holds features already."""
    typed = click.get_current_context().get_parameter_source
    for name in ("backbone", "image_size", "resize", "precision"):
        if source.endswith(".npz") and typed(name) is ParameterSource.COMMANDLINE:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{source} holds features already; leave {flag} out.")


def refuse_to_replace(output: Path | None, *sources: str | Path | None) -> None:
    """Raise `UsageError` if the file to be written is one that the command reads."""
    if output is None or not output.exists():
        return
    read = [Path(source) for source in sources if source is not None]
    if any(path.exists() and path.samefile(output) for path in read):
        raise UsageError(f"{output} is read by this command; give another -o FILE.")


def resolved_source(source: str) -> str:
    """What the user typed, as a path that holds from any folder if it is one."""
    scheme, colon, rest = source.partition(":")
    if scheme == "hf" and colon:
        return f"hf:{Path(rest).resolve()}" if Path(rest).exists() else source
    return str(Path(source).expanduser().resolve()) if Path(source).exists() else source


def open_for_ladder(
    ladder: Ladder,
    data: str | None,
    *,
    root: Path | None,
    skip_broken: bool,
    images: bool,
    **machine: Any,
) -> tuple[Features, Dataset | None]:
    """The features that a ladder was built on, and the dataset if `images` are needed.

    Raises `DataError` if the data or the network is not the ladder's.
    """
    from oodml.features.extraction import extract_features
    from oodml.features.features import Features

    if not ladder.measured:
        raise DataError(
            "the ladder's FIDs are as published, so no features of ours belong to it; import it "
            "again with --data SOURCE --backbone NAME."
        )
    source = data or ladder.source
    if not source:
        raise DataError("the ladder does not say where its data is; name it with --data SOURCE.")
    made = ladder.features
    if source.endswith(".npz"):
        if images:
            raise DataError(f"training whole networks needs images; {source} holds features.")
        features, dataset = Features.load(source), None
    else:
        dataset = open_dataset(source, root, skip_broken)
        _check_fingerprint(ladder, source, dataset.fingerprint)
        features = extract_features(
            dataset,
            made.backbone,
            precision=made.precision,
            image_size=made.image_size,
            resize=made.resize,
            progress=True,
            **machine,
        )
    _check_fingerprint(ladder, source, features.source.fingerprint)
    if features.source.network != made.network:
        raise DataError(
            f"the ladder was built on {made.network}, the features given are of "
            f"{features.source.network}; give the same --weights."
        )
    return features, dataset


def _check_fingerprint(ladder: Ladder, source: str, fingerprint: str) -> None:
    if fingerprint != ladder.features.fingerprint:
        raise DataError(
            f"the ladder was built for dataset {ladder.features.dataset!r} with fingerprint "
            f"{ladder.features.fingerprint}, but {source} has {fingerprint}; build a ladder for "
            "it with `oodml ladder build`, or name the right data with --data."
        )


def in_bytes(gibibytes: float) -> int:
    """What `--memory` says, in bytes."""
    return int(gibibytes * 2**30)


def default_workers() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))
