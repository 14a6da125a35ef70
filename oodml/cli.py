"""The command line: the group of all commands, its config file, and errors in one line."""

from __future__ import annotations

import logging
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import click

from oodml import __version__
from oodml.commands.options import LazyCommands
from oodml.commands.tables import PrintableFormatter
from oodml.errors import CLOSEST, OodmlError, UsageError, closest_names, did_you_mean, unknown_name
from oodml.text import printable

# The exit code of a shell for a command that Ctrl-C ended; click has 1.
INTERRUPTED = 130
# Command -> its module in oodml.commands.
_HOMES = {
    "analyze": "table",
    "dataset": "dataset",
    "demo": "demo",
    "evaluate": "evaluate",
    "features": "features",
    "fid": "fid",
    "ladder": "ladder",
    "list": "list",
    "plot": "plot",
    "report": "report",
    "run": "run",
    "status": "status",
    "table": "table",
    "train": "run",
    "tune": "tune",
}


class Commands(LazyCommands):
    """Commands imported on first use; errors that a user can mend end as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OodmlError as error:
            raise _one_line(error, ctx.meta.get("oodml.command")) from None
        except click.NoSuchOption as error:
            raise _closest_option(error) from None
        except BrokenPipeError:
            raise
        except KeyboardInterrupt:
            click.echo("Aborted!", err=True)
            ctx.exit(INTERRUPTED)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise _DataLine(printable(f"{place}{error.strerror or error}.")) from None


class _DataLine(click.ClickException):
    exit_code = 1


class _UsageLine(click.ClickException):
    exit_code = 2


def _one_line(error: OodmlError, command: click.Command | None) -> click.ClickException:
    kind = _UsageLine if isinstance(error, UsageError) else _DataLine
    return kind(printable(" ".join(with_flags(str(error), command).split())))


def _closest_option(error: click.NoSuchOption) -> click.UsageError:
    """The same error with the closest options first, where click sorts them by name."""
    known = error.ctx.command.params if error.ctx else []
    close = closest_names(error.option_name, [name for each in known for name in each.opts])
    return click.UsageError(
        f"no such option {error.option_name}.{did_you_mean(close[:CLOSEST])}", ctx=error.ctx
    )


def with_flags(message: str, command: click.Command | None) -> str:
    """The library's names of arguments as options of the command: `null=20` as --null 20.

    A name alone counts if it holds an underscore, as "steps" may be an ordinary word; what follows
    a colon or a comma at once is a hyperparameter, as in margin:beta=0.6.
    """
    flags = _flags(command) if command else {}
    if not flags:
        return message

    def flag(found: re.Match[str]) -> str:
        name, value = found.groups()
        if value is None:
            return flags[name] if "_" in name else found[0]
        return f"{flags[name]} {value}".removesuffix(" True").replace("'", "")

    names = "|".join(sorted(flags, key=len, reverse=True))
    return re.sub(rf"(?<![\w:,./'-])({names})\b(?!\.\w)(?:=(True\b|'[^']*'|))?", flag, message)


def _flags(command: click.Command) -> dict[str, str]:
    """Names of arguments -> options; a setting may have another name than its option."""
    options = {p.name: p.opts[0] for p in command.params if isinstance(p, click.Option)}
    flags = {name: flag for name, flag in options.items() if name}
    flags |= {flag.lstrip("-").replace("-", "_"): flag for flag in options.values()}
    if "train_batch_size" in flags:
        from oodml.train.settings import SETTINGS

        flags |= {setting.name: setting.flag for setting in SETTINGS.values()}
    return flags


@click.group(
    cls=Commands,
    homes=_HOMES,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "OODML",
        "show_default": True,
        "max_content_width": 100,
    },
)
@click.version_option(__version__, "-V", "--version")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with one table per command, its options as keys.",
)
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Evaluate deep metric learning under graded class shift.

    Measure how far test classes lie from training classes, build a ladder of class splits from easy
    to hard, train methods on every rung and plot what the shift costs.
    """
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    logging.getLogger("oodml").setLevel(logging.INFO)
    if config is not None:
        ctx.default_map = _read_config(config)


def _read_config(path: Path) -> dict[str, Any]:
    """The tables of a TOML file as click's default map; unknown keys are refused."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from None
    context = click.Context(main)
    return {name: _options(main, context, name, table) for name, table in tables.items()}


def _options(group: click.Group, ctx: click.Context, name: str, table: Any) -> dict[str, Any]:
    known = group.list_commands(ctx)
    command = group.get_command(ctx, name) if name in known else None
    if command is None:
        raise unknown_name("command in the config file", name, known)
    if not isinstance(table, dict):
        raise UsageError(f"config key {name!r} must be a table, [{name}].")
    if isinstance(command, click.Group):
        return {key: _options(command, ctx, key, value) for key, value in table.items()}
    names = {
        option.lstrip("-"): parameter.name
        for parameter in command.params
        for option in parameter.opts
    }
    for key in table:
        if key not in names:
            raise unknown_name(f"option of {name} in the config file", key, names)
    return {names[key] or key: value for key, value in table.items()}


def run() -> None:
    """The entry point; a pipe that its reader closed early is no error."""
    try:
        main(prog_name="oodml")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
