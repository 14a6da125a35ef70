"""`oodml dataset`: get collections and check pools of images."""

from __future__ import annotations

from importlib import import_module

import click

from oodml.errors import unknown_name

# Command -> the module that defines it, imported when the command is used.
_HOMES = {"check": "dataset_check", "download": "dataset_download"}


class DatasetCommands(click.Group):
    """The subcommands, imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_HOMES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _HOMES:
            return None
        module = import_module(f"oodml.cli.{_HOMES[name]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _HOMES:
            raise unknown_name("command of dataset", args[0], _HOMES)
        return super().resolve_command(ctx, args)


@click.group(name="dataset", cls=DatasetCommands)
def dataset_command() -> None:
    """Check a pool of images for leakage and damage; download a named collection."""
