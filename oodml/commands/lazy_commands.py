"""A group of commands of which each is imported on first use."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from oodml.errors import unknown_name


class LazyCommands(click.Group):
    """Commands by the module of `oodml.cli` that defines them, each under its name and _command.

    `kind` is what an unknown name is called in its error.
    """

    def __init__(
        self, *arguments: Any, homes: Mapping[str, str], kind: str = "command", **more: Any
    ) -> None:
        super().__init__(*arguments, **more)
        self.homes, self.kind = homes, kind

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.homes)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.homes:
            return None
        module = import_module(f"oodml.commands.{self.homes[name]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.homes:
            raise unknown_name(self.kind, args[0], self.homes)
        return super().resolve_command(ctx, args)
