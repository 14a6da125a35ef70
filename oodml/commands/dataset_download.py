"""`oodml dataset download`: get a named collection."""

from __future__ import annotations

from pathlib import Path

import click

from oodml.commands.options import FOLDER


@click.command()
@click.argument("name")
@click.option(
    "--root",
    type=FOLDER,
    help="Folder to put it into  [default: $OODML_DATA/NAME or ~/.cache/oodml/collections/NAME]",
)
def download_command(name: str, root: Path | None) -> None:
    """Download a collection, or extract what was downloaded, and count it.

    A download that was cut off goes on where it stopped. `oodml list datasets` gives the names.
    """
    from oodml.data.collections.download import download_collection, load_collection
    from oodml.data.collections.registry import find_collection
    from oodml.errors import DataError

    collection = find_collection(name)
    try:
        dataset = load_collection(collection, root)
    except DataError:
        download_collection(collection, root, progress=True)
        dataset = load_collection(collection, root)
    groups = f" in {len(set(dataset.groups))} groups" if dataset.groups else ""
    click.echo(f"{name}: {len(dataset):,} images of {len(dataset.class_names):,} classes{groups}")
    if root is not None:
        click.echo(f"Use it with: {name} --root {root}")
