"""Opening what the commands name: data, features, and ladders with what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oodml.commands.tables import echo
from oodml.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.features import Features
    from oodml.splits.ladder import Ladder


def open_dataset(source: str, root: Path | None, skip_broken: bool) -> Dataset:
    """The dataset that a command names."""
    from oodml.data import load_dataset

    return load_dataset(source, root=root, skip_broken=skip_broken, progress=True)


def open_features(source: str, *, root: Path | None, skip_broken: bool, **network: Any) -> Features:
    """The features in a `.npz` file, or those of a dataset under a network."""
    from oodml.features.extraction import extract_features
    from oodml.features.features import Features

    if source.endswith(".npz"):
        return Features.load(source)
    dataset = open_dataset(source, root, skip_broken)
    return extract_features(dataset, progress=True, **network)


def open_samples(source: str, root: Path | None, skip_broken: bool) -> Dataset | Features:
    """The features in a `.npz` file, or the images of a dataset."""
    from oodml.features.features import Features

    is_features = source.endswith(".npz")
    return Features.load(source) if is_features else open_dataset(source, root, skip_broken)


def open_ladder(path: Path, options: Mapping[str, Any]) -> Ladder:
    """The ladder in a file; splits that were imported without data take the classes of --data."""
    from oodml.splits.ladder import Ladder

    ladder, data = Ladder.load(path), options["data"]
    if data is None or ladder.features.fingerprint:
        return ladder
    samples = open_samples(data, options["root"], options["skip_broken"])
    return matched(ladder, samples, data, err=True)


def matched(
    ladder: Ladder, samples: Dataset | Features, source: str, *, err: bool = False
) -> Ladder:
    """Imported splits in the class names of their data, which is printed (to stderr if `err`)."""
    from oodml.splits.exchange import match_classes, with_data

    match = match_classes(ladder.class_sizes, samples.class_names)
    found = with_data(ladder, match, samples, resolved_source(source))
    echo(match.report(), err=err)
    return found


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

    check_measured(ladder)
    source = ladder_source(ladder, data)
    made = ladder.features
    if source.endswith(".npz"):
        if images:
            raise DataError(f"training whole networks needs images; {source} holds features.")
        features, dataset = Features.load(source), None
    else:
        dataset = open_dataset(source, root, skip_broken)
        check_fingerprint(ladder, source, dataset.fingerprint)
        try:
            features = extract_features(
                dataset,
                made.backbone,
                precision=made.precision,
                image_size=made.image_size,
                resize=made.resize,
                progress=True,
                **machine,
            )
        except UnknownNameError:
            raise DataError(
                f"the ladder was measured by {made.backbone!r}, a network that this oodml does not "
                "know; give features of it with --data FILE.npz, or measure the splits with "
                "another: `oodml ladder measure LADDER --backbone NAME`."
            ) from None
    check_fingerprint(ladder, source, features.source.fingerprint)
    if features.source.network != made.network:
        raise DataError(
            f"the ladder was built on {made.network}, the features given are of "
            f"{features.source.network}; give the same --weights."
        )
    return features, dataset


def check_measured(ladder: Ladder) -> None:
    """Raise `DataError` for a ladder that names no network of ours."""
    if not ladder.measured:
        raise DataError(
            "the ladder's FIDs are as published, so no network of ours belongs to it; name one "
            "with --backbone NAME, or measure the ladder: `oodml ladder measure`."
        )


def ladder_images(
    ladder: Ladder, data: str | None, *, root: Path | None, skip_broken: bool
) -> Dataset:
    """The images that a ladder is of; `DataError` for other ones, or for features."""
    source = ladder_source(ladder, data)
    if source.endswith(".npz"):
        raise DataError(
            f"another network than the ladder's needs the images, and {source} holds features; "
            "name them with --data FOLDER."
        )
    dataset = open_dataset(source, root, skip_broken)
    check_fingerprint(ladder, source, dataset.fingerprint)
    return dataset


def ladder_source(ladder: Ladder, data: str | None) -> str:
    """`data` if given, else what the ladder remembers; `DataError` if that is nothing."""
    source = data or ladder.source
    if not source:
        raise DataError("the ladder does not say where its data is; name it with --data SOURCE.")
    return source


def resolved_source(source: str) -> str:
    """What the user typed, as an absolute path if it is one."""
    scheme, colon, rest = source.partition(":")
    if scheme == "hf" and colon:
        return f"hf:{Path(rest).resolve()}" if Path(rest).exists() else source
    return str(Path(source).expanduser().resolve()) if Path(source).exists() else source


def check_fingerprint(ladder: Ladder, source: str, fingerprint: str) -> None:
    """Raise `DataError` if the data that `source` names is not the ladder's."""
    if fingerprint != ladder.features.fingerprint:
        raise DataError(
            f"the ladder was built for dataset {ladder.features.dataset!r} with fingerprint "
            f"{ladder.features.fingerprint}, but {source} has {fingerprint}; build a ladder for "
            "it with `oodml ladder build`, or name the right data with --data."
        )
