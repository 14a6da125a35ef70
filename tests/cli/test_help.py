"""What `--help` and the page of commands say of every option."""

from __future__ import annotations

from collections.abc import Iterator

import click

from oodml.cli import main


def options(group: click.Group, name: str = "oodml") -> Iterator[tuple[str, click.Option]]:
    context = click.Context(group)
    for part in group.list_commands(context):
        command = group.get_command(context, part)
        assert command is not None
        if isinstance(command, click.Group):
            yield from options(command, f"{name} {part}")
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield f"{name} {part}", parameter


def test_every_option_says_what_it_does() -> None:
    found = list(options(main))
    assert len(found) > 300
    silent = [(command, option.opts[-1]) for command, option in found if not option.help]
    assert not silent
