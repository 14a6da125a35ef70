"""Runs in Weights & Biases, under the user's own account, project and mode (`WANDB_*`)."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from oodml.train.tracking.tracker import PROJECT, TrackedRun, epoch_figures

# A server that does not answer for longer is taken as away.
INIT_SECONDS = 30


def begin(run: TrackedRun) -> WandbRun:
    """The run with the same id, begun or continued; `WANDB_PROJECT` says where, or "oodml"."""
    wandb = import_module("wandb")
    run.directory.mkdir(parents=True, exist_ok=True)
    # create_new leaves a run alone that the caller has open; console output is not ours to take.
    settings = wandb.Settings(console="off", silent=True, init_timeout=INIT_SECONDS)
    return WandbRun(
        wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.name,
            group=run.group,
            config=run.settings,
            dir=str(run.directory),
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
    )


class WandbRun:
    """One run; its charts are drawn over `step`, which may go back when a run is resumed."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def start(self, member: str, step: int) -> None:
        """Draw the model's figures over its own steps; lines from before a kill come again."""
        axis = _axis(member)
        self.run.define_metric(axis, hidden=True)
        self.run.define_metric(f"{member}/training/*".lstrip("/"), step_metric=axis)

    def epoch(self, member: str, step: int, figures: dict[str, float]) -> None:
        """Log the figures of an epoch."""
        self.run.log({_axis(member): step, **epoch_figures(figures, member)})

    def finish(self, figures: dict[str, float]) -> None:
        """Put the results into the summary, which the table of runs shows."""
        self.run.summary.update(figures)
        self.run.finish(exit_code=0)

    def abandon(self, *, failed: bool) -> None:
        """End the run without results; the server shows it as crashed until it is resumed."""
        self.run.finish(exit_code=1 if failed else 255)


def _axis(member: str) -> str:
    return f"{member}/step" if member else "step"
