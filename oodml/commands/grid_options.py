"""What a user may say of a grid of runs: data, methods, settings of training and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from oodml.commands.options import FILE, data_options, machine_options, memory_option, together
from oodml.train.settings import SETTINGS, Setting


def _option(setting: Setting) -> Callable[[Any], Any]:
    """The option of one setting; what it is without it follows from method and protocol."""
    default = setting.default
    if isinstance(default, bool):
        name = setting.flag.removeprefix("--")
        kind: dict[str, Any] = {"default": None, "is_flag": True}
        flag = f"--{name}/--no-{name}"
    else:
        flag = setting.flag
        choices = [choice for choice in setting.choices if choice]
        kind = {"type": click.Choice(choices) if choices else type(default)}
    shown = f"  [default: {default}]" if not isinstance(default, bool) and default != "" else ""
    return click.option(flag, setting.parameter, help=setting.help + shown, **kind)


setting_options = together(*(_option(setting) for setting in SETTINGS.values()))

grid_options = together(
    click.option("--data", help="SOURCE of the ladder's data  [default: as the ladder remembers]"),
    click.option(
        "-m",
        "--method",
        "methods",
        multiple=True,
        help="Method, with hyperparameters as margin:beta=0.6; repeatable; `all` for every one.",
    ),
    click.option(
        "--train",
        "trained",
        type=click.Choice(["head", "all"]),
        help="A linear head on frozen features, or the whole network  [default: head]",
    ),
    click.option("--protocol", "preset", help="Published protocol: ooDML or reality-check."),
    click.option(
        "--recipe",
        default="auto",
        show_default=True,
        help="Published settings for cub200, cars196 or sop; auto goes by the data, with"
        " --train all.",
    ),
    setting_options,
    click.option(
        "--keep-embeddings", is_flag=True, help="Keep each run's test embeddings, for galleries."
    ),
    click.option(
        "--keep-pair-weights", is_flag=True, help="Keep how each loss weighs pairs in the end."
    ),
    click.option("--plugin", "plugins", type=FILE, multiple=True, help="File with own methods."),
    data_options,
    machine_options,
    memory_option,
)
