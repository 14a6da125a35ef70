"""docs/commands.md: every command and option, read off the click commands."""

from __future__ import annotations

from collections.abc import Iterator

import click

from oodml.cli import main

_HEAD = """# Commands

Written from the commands themselves by `python docs/generate`; `-h` after any command prints the
same. A default may also come from an environment variable (`OODML_RUN_STEPS=1000` for `--steps` of
`oodml run`) or from a TOML file given as `oodml --config FILE`, with one table a command and its
options as keys; what is typed wins over the variable, the variable over the file. Results go to
standard output, progress and logs to standard error; where that is no terminal, progress is a line
every ten seconds at most. The exit code is 0, 1 for data that cannot be used, 2 for a command that
cannot be understood, 130 after Ctrl-C.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *(_section(path, command) for path, command in _commands(main))])


def _commands(
    group: click.Group, path: tuple[str, ...] = ("oodml",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from _commands(command, (*path, name))
            elif command is not None:
                yield (*path, name), command


def _section(path: tuple[str, ...], command: click.Command) -> str:
    arguments = [_argument(p) for p in command.params if isinstance(p, click.Argument)]
    last = ["COMMAND"] if isinstance(command, click.Group) else []
    usage = " ".join([*path, "[OPTIONS]", *arguments, *last])
    lines = [f"## {' '.join(path)}", "", f"`{usage}`", "", _help(command), ""]
    options = [p for p in command.params if isinstance(p, click.Option)]
    if options:
        lines += ["| option | value | default | what it does |", "|---|---|---|---|"]
        lines += [_row(option) for option in options] + [""]
    return "\n".join(lines)


def _argument(argument: click.Argument) -> str:
    name = (argument.metavar or argument.name or "").upper()
    if isinstance(argument.type, click.Choice):
        name = "{" + ",".join(argument.type.choices) + "}"
    if argument.nargs == -1:
        name += "..."
    return name if argument.required else f"[{name}]"


def _help(command: click.Command) -> str:
    paragraphs = (command.help or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    cells = [names, _value(option), _default(option), " ".join((option.help or "").split())]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(option: click.Option) -> str:
    if option.is_flag:
        return "-"
    kind = option.type
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    if isinstance(kind, click.Path):
        return "folder" if not kind.file_okay else "file" if not kind.dir_okay else "path"
    words = {"integer": "whole number", "float": "number", "text": "text"}
    word = words.get(kind.name.removesuffix(" range"), kind.name)
    return word + _bounds(kind) + (", repeatable" if option.multiple else "")


def _bounds(kind: click.ParamType) -> str:
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" from {low}" if low is not None else f" to {high}" if high is not None else ""


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    default = option.to_info_dict()["default"]
    if isinstance(default, bool):
        shown = option.opts if default else option.secondary_opts
        return f"`{shown[0]}`" if shown else "-"
    if isinstance(default, (list, tuple)):
        return ", ".join(map(str, default)) or "-"
    return "-" if default in (None, "") else str(default)
