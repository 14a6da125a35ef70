"""`oodml fid`: the shift between two sets of images or features."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from oodml.cli.options import data_options, network_options, open_features
from oodml.errors import DataError


@click.command()
@click.argument("a")
@click.argument("b")
@data_options
@network_options
@click.option(
    "--format", "text_format", type=click.Choice(["text", "json"]), default="text",
    show_default=True,
)  # fmt: skip
def fid_command(a: str, b: str, text_format: str, **options: Any) -> None:
    """Measure the Frechet distance between the features of A and B.

    A and B are folders of class folders, CSVs, collections or feature files (.npz).
    """
    from oodml.fid.frechet import frechet_terms

    one, other = open_features(a, **options), open_features(b, **options)
    if one.source.network != other.source.network:
        raise DataError(
            f"A was made by {one.source.network}, B by {other.source.network}; "
            "distances between different networks, inputs or precisions mean nothing."
        )
    terms = frechet_terms(one.values, other.values)
    if text_format == "json":
        record = {"fid": terms.value, "n": [len(one), len(other)], "network": one.source.network}
        click.echo(json.dumps({**record, **asdict(terms)}, sort_keys=True))
        return
    click.echo(
        f"FID {terms.value:.4f} = means {terms.mean:.4f} + covariances {terms.covariance:.4f}"
    )
    click.echo(f"{len(one)} and {len(other)} images, sample level, {one.source.network}")
