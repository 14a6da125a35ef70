"""What a user may say of a grid: data, methods, settings, and how its runs are launched."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.options import (
    RETRIES,
    Number,
    data_options,
    default_workers,
    device_options,
    ladder_data_option,
    memory_option,
    plugin_option,
    together,
    workers_option,
)
from oodml.train.settings import SETTINGS, Setting

if TYPE_CHECKING:
    from oodml.runs.spec import RunSpec

TRACKERS = ("tensorboard", "wandb", "mlflow")


class WeightsOf(click.ParamType):  # type: ignore[type-arg]
    """FILE, or NAME=FILE, as a pair of the name, "" without one, and the path."""

    name = "[NAME=]FILE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path]:
        """The pair; a usage error for an empty name or file."""
        if isinstance(value, tuple):
            return value
        name, equals, file = str(value).partition("=")
        if not equals or Path(value).exists():
            name, file = "", str(value)
        if not file or (equals and not name and not Path(value).exists()):
            self.fail(f"{value!r}: write it as FILE or NAME=FILE.", param, ctx)
        return name, Path(file)


def _option(setting: Setting) -> Callable[[Any], Any]:
    """The option of a setting; None without it, as method and protocol may have their own."""
    default = setting.default
    if isinstance(default, bool):
        name = setting.flag.removeprefix("--")
        switch = f"--{name}/--no-{name}"
        return click.option(
            switch, setting.parameter, is_flag=True, default=None, help=setting.help
        )
    choices = [choice for choice in setting.choices if choice]
    return click.option(
        setting.flag,
        setting.parameter,
        type=click.Choice(choices) if choices else type(default),
        show_default=str(default) or False,
        help=setting.help,
    )


model_options = together(
    click.option(
        "--backbone",
        "backbones",
        multiple=True,
        show_default="the network that measured the ladder",
        help="Model that is frozen or trained, as NAME or NAME@PIXELS; repeatable.",
    ),
    click.option(
        "--weights",
        type=WeightsOf(),
        multiple=True,
        help="File with the weights of the backbone, or NAME=FILE of one of several; repeatable.",
    ),
)
grid_options = together(
    ladder_data_option,
    model_options,
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
        show_default="head",
        help="What is trained: a linear head on frozen features, or the whole network.",
    ),
    click.option("--protocol", "preset", help="Published protocol: ooDML or reality-check."),
    click.option(
        "--recipe",
        default="auto",
        help="Published settings of cub200, cars196 or sop for --train all; auto goes by the data.",
    ),
    *(_option(setting) for setting in SETTINGS.values()),
    click.option(
        "--keep-embeddings/--no-keep-embeddings",
        default=None,
        show_default="of seed 0, first and last rung",
        help="Keep each run's test embeddings, for galleries.",
    ),
    click.option(
        "--keep-pair-weights",
        is_flag=True,
        help="Keep the weight of pairs in each loss at the end of training.",
    ),
    plugin_option,
    data_options,
    device_options,
    memory_option,
)

# No result depends on these.
launch_options = together(
    workers_option,
    click.option(
        "--launcher",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="Processes of this machine, or tasks of a Ray cluster; under torchrun all processes"
        " share each run.",
    ),
    click.option(
        "--address", show_default="a cluster started here", help="Ray cluster, HOST:PORT or auto."
    ),
    click.option(
        "--cpus-per-run",
        type=click.IntRange(1),
        default=1,
        help="Cores of a Ray node that a run takes.",
    ),
    click.option(
        "--gpus-per-run",
        type=Number(0),
        default=0.0,
        help="GPUs of a Ray node that a run takes.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0),
        default=RETRIES,
        help="Retries of a failed run, one per call.",
    ),
    click.option(
        "--timeout", type=Number(0), show_default="none", help="Seconds after which a run fails."
    ),
    click.option(
        "--track", type=click.Choice(TRACKERS), help="Tracker to send epochs and metrics to."
    ),
)


def launching(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `run_grid` that these options stand for; they are taken out of `options`."""
    from oodml.launch import Cluster

    cluster = Cluster(
        options.pop("address") or "", options.pop("cpus_per_run"), options.pop("gpus_per_run")
    )
    launcher = options.pop("launcher")
    return {
        "launcher": "torchrun" if torchrun_processes() > 1 else launcher,
        "cluster": cluster,
        "workers": options.pop("workers"),
        "retries": options.pop("retries"),
        "timeout": options.pop("timeout") or 0.0,
        "track": options.pop("track") or "",
    }


def workers_for(specs: Sequence[RunSpec]) -> int:
    """A worker per core for heads; per GPU for networks, or a single one with all cores."""
    if all(spec.model.train != "all" for spec in specs):
        return default_workers()
    import torch

    return max(1, torch.cuda.device_count())


def torchrun_processes() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this process is the one of torchrun's that prints."""
    return int(os.environ.get("RANK", "0")) == 0
