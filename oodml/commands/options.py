"""Shared by the commands: kinds of values, options, and what they refuse."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from oodml.errors import UsageError, unknown_name
from oodml.features.backbones.registry import LEAST_SIDE, MOST_SIDE

Command = TypeVar("Command", bound=Callable[..., Any])


class LazyCommands(click.Group):
    """A group whose commands are imported on first use.

    `homes` maps a command to its module in `oodml.commands`, where it is called NAME_command;
    `kind` says in errors what a command of the group is.
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
        name, command, rest = super().resolve_command(ctx, args)
        ctx.meta["oodml.command"] = command  # the innermost one, for errors
        return name, command, rest


class NamedPath(click.Path):
    """A path, but not the empty one, which unset shell variables leave behind."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error for an empty one."""
        if value == "":
            self.fail("the name is empty; give one, or . for this folder.", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A finite number in a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; a usage error for NaN, infinity and what is out of range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return float(number)


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Finite numbers separated by commas, such as 20,40,60."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers as a tuple; a usage error for anything else."""
        if isinstance(value, (list, tuple)):
            value = ",".join(map(str, value))
        try:
            numbers = tuple(self.kind(part) for part in str(value).split(",") if part.strip())
            if not all(map(math.isfinite, numbers)):
                raise ValueError
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a list of numbers such as 20,40,60.", param, ctx)
        return numbers


class Draws(click.IntRange):
    """A number of random draws: 0, or at least as many as a statistic needs."""

    def __init__(self, least: int = 2) -> None:
        super().__init__(0, 1_000_000)
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; a usage error for one that is neither 0 nor enough."""
        number = int(super().convert(value, param, ctx))
        if 0 < number < self.least:
            self.fail(f"{number} is too few; give {self.least} or more, or 0.", param, ctx)
        return number


FILE = NamedPath(dir_okay=False, path_type=Path)
FOLDER = NamedPath(file_okay=False, path_type=Path)
# More seeds than a grid could ever hold: a plan lists every run.
SEEDS = click.IntRange(1, 100_000)
IMAGE_SIDE = click.IntRange(LEAST_SIDE, MOST_SIDE)
# Failures after which a run is given up, less one.
RETRIES = 2


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator out of several options, shown in the help in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


root_option = click.option(
    "--root",
    type=FOLDER,
    help="Folder of the collection, or that the relative paths of a table start from.",
)
data_options = together(
    root_option,
    click.option("--skip-broken", is_flag=True, help="Leave out images that do not decode."),
)
cache_option = click.option(
    "--cache", type=FOLDER, show_default="~/.cache/oodml", help="Folder of cached features."
)
device_option = click.option(
    "--device", show_default="cuda if there is one", help="Device such as cpu or cuda."
)
device_options = together(
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        show_default="suits the device",
        help="Images in one forward pass.",
    ),
    device_option,
    cache_option,
)
machine_options = together(
    click.option(
        "--weights", type=FILE, help="File with the backbone's weights (.pth or .safetensors)."
    ),
    device_options,
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    help="Floating-point format of the network; fp16 on CUDA only.",
)
image_size_option = click.option(
    "--image-size",
    type=IMAGE_SIDE,
    show_default="the network's own",
    help="Side of the network's input in pixels.",
)
resize_option = click.option(
    "--resize",
    type=click.Choice(["pytorch-fid", "torch-fidelity", "clean-fid"]),
    show_default="pytorch-fid",
    help="Library whose resizing inception_fid repeats.",
)
network_options = together(
    click.option(
        "--backbone",
        default="inception_v3",
        help="Frozen network; `oodml list backbones` names them.",
    ),
    image_size_option,
    resize_option,
    precision_option,
    machine_options,
)
null_option = click.option(
    "--null",
    type=Draws(),
    default=20,
    help="Random splits of the same sizes to compare each rung with; 0 for none.",
)
ladder_data_option = click.option(
    "--data", show_default="as the ladder remembers", help="SOURCE of the ladder's data."
)
level_option = click.option(
    "--level",
    type=click.Choice(["sample", "class"]),
    default="sample",
    help="Points of the Gaussians: all images, or class means.",
)
memory_option = click.option(
    "--memory",
    type=Number(0.01, 1e6),
    default=1.0,
    help="GiB that retrieval may use; no score depends on it.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(1),
    show_default="one per core, or per GPU",
    help="Worker processes.",
)
plugin_option = click.option(
    "--plugin", "plugins", type=FILE, multiple=True, help="Python file with your own methods or "
    "metrics; repeatable.",
)  # fmt: skip
format_option = click.option(
    "--format",
    "table_format",
    type=click.Choice(["text", "markdown", "latex", "csv", "json"]),
    default="text",
    help="Format of the output.",
)
text_or_json_option = click.option(
    "--format",
    "text_format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Format of the output.",
)


def default_workers() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def in_bytes(gibibytes: float) -> int:
    """The value of `--memory` in bytes."""
    return int(gibibytes * 2**30)


def refuse_features_as_images(source: str) -> None:
    """Raise `UsageError` if a network was typed for a file that holds features already."""
    if source.endswith(".npz"):
        names = ("backbone", "image_size", "resize", "precision")
        refuse_typed(names, f"{source} holds features already")


def refuse_typed(names: Sequence[str], reason: str) -> None:
    """Raise `UsageError` with the reason if one of these options was typed."""
    source_of = click.get_current_context().get_parameter_source
    for name in names:
        if source_of(name) is ParameterSource.COMMANDLINE:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{reason}; leave {flag} out.")


def refuse_to_replace(output: Path | None, *sources: str | Path | None) -> None:
    """Raise `UsageError` if the file to be written is one that the command reads."""
    if output is None or not output.exists():
        return
    read = [Path(source) for source in sources if source is not None]
    if any(path.exists() and path.samefile(output) for path in read):
        raise UsageError(f"{output} is read by this command; give another -o FILE.")
