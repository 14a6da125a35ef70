"""What a user may say of how a grid is done: workers, clusters, faults; no result depends on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.kinds import Number
from oodml.commands.options import default_workers, together

if TYPE_CHECKING:
    from oodml.runs.spec import RunSpec

TRACKERS = ("tensorboard", "wandb", "mlflow")

launch_options = together(
    click.option(
        "--workers", type=click.IntRange(1), help="Processes  [default: one per core, or per GPU]"
    ),
    click.option(
        "--launcher",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Processes of this machine, or tasks of a Ray cluster; under torchrun all processes"
        " do each run together.",
    ),
    click.option(
        "--address", default="", help="Ray cluster: HOST:PORT or auto  [default: one started here]"
    ),
    click.option(
        "--cpus-per-run",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Cores of a Ray node that a run takes.",
    ),
    click.option(
        "--gpus-per-run",
        type=Number(0),
        default=0.0,
        show_default=True,
        help="GPUs of a Ray node that a run takes.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0),
        default=2,
        show_default=True,
        help="How often a run that failed is tried again, once a call.",
    ),
    click.option(
        "--timeout",
        type=Number(0),
        default=0.0,
        help="Seconds after which a run has failed  [default: none]",
    ),
    click.option(
        "--track",
        type=click.Choice(TRACKERS),
        help="Also send epochs and metrics to this tracker.",
    ),
)


def launching(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `run_grid` that these options stand for; they are taken out of `options`."""
    from oodml.launch import Cluster

    cluster = Cluster(
        options.pop("address"), options.pop("cpus_per_run"), options.pop("gpus_per_run")
    )
    launcher = "torchrun" if torchrun_processes() > 1 else options.pop("launcher")
    return {
        "launcher": launcher,
        "cluster": cluster,
        "workers": options.pop("workers"),
        "retries": options.pop("retries"),
        "timeout": options.pop("timeout"),
        "track": options.pop("track") or "",
    }


def workers_for(specs: Sequence[RunSpec]) -> int:
    """One worker a core for heads; for networks one a GPU, or a single one with all cores."""
    if all(spec.model.train != "all" for spec in specs):
        return default_workers()
    import torch

    return max(1, torch.cuda.device_count())


def torchrun_processes() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this process speaks for those that torchrun has started."""
    return int(os.environ.get("RANK", "0")) == 0
