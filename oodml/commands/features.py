"""`oodml features`: extract the features of a dataset into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from oodml.commands.opening import open_features
from oodml.commands.options import (
    FILE,
    data_options,
    network_options,
    refuse_features_as_images,
    refuse_to_replace,
)
from oodml.commands.tables import echo


@click.command()
@click.argument("source")
@click.option("-o", "--output", type=FILE, required=True, help="Feature file to write (.npz).")
@data_options
@network_options
def features_command(source: str, output: Path, **options: Any) -> None:
    """Extract one vector per image into a file.

    SOURCE is a folder of class folders, a CSV or Parquet file with path,label[,group], the name of
    a collection, or hf:OWNER/NAME of Hugging Face.
    """
    refuse_features_as_images(source)
    refuse_to_replace(output, source)
    features = open_features(source, **options)
    features.save(output)
    echo(
        f"{output}: {len(features)} vectors of {features.values.shape[1]} dimensions, "
        f"{len(features.class_names)} classes, {features.source.network}"
    )
