"""`oodml dataset`: get collections and check pools of images."""

from __future__ import annotations

import click

from oodml.commands.lazy_commands import LazyCommands


@click.group(
    name="dataset",
    cls=LazyCommands,
    homes={"check": "dataset_check", "download": "dataset_download"},
    kind="command of dataset",
)
def dataset_command() -> None:
    """Check a pool of images for leakage and damage; download a named collection."""
