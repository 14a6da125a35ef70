"""Runs in TensorBoard: `tensorboard --logdir STORE/tensorboard` shows them by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from oodml.train.tracking.tracker import TrackedRun, epoch_figures


def begin(run: TrackedRun) -> Board:
    """The run's folder of events, begun or continued."""
    board = import_module("torch.utils.tensorboard")
    # TensorBoard's own module for these two needs TensorFlow.
    _, begun, ended = import_module("torch.utils.tensorboard.summary").hparams(run.settings, {})
    return Board(run.directory / "tensorboard" / run.name, board.SummaryWriter, begun, ended)


class Board:
    """One folder of events, with a folder in it for every model of a run with several.

    `begun` and `ended` are the summaries that the table of settings is made of.
    """

    def __init__(self, folder: Path, writer: Any, begun: Any, ended: Any) -> None:
        self.folder = folder
        self._writer, self._begun, self._ended = writer, begun, ended
        self._open: dict[str, Any] = {}
        self._step = 0

    def start(self, member: str, step: int) -> None:
        """Open the model's folder; TensorBoard forgets the events from `purge_step` on."""
        self._at(member, step + 1)
        self._step = max(self._step, step)

    def _at(self, member: str, purge_step: int | None = None) -> Any:
        """The writer of a model's folder; the run's own says what the run is."""
        if member not in self._open:
            writer = self._writer(str(self.folder / member), purge_step=purge_step)
            self._open[member] = writer
            if not member:
                writer.file_writer.add_summary(self._begun)
        return self._open[member]

    def epoch(self, member: str, step: int, figures: dict[str, float]) -> None:
        """Write the epoch's scalars to disk: a kill loses none of those before the checkpoint."""
        writer = self._at(member)
        for name, value in epoch_figures(figures).items():
            writer.add_scalar(name, value, step)
        writer.flush()
        self._step = max(self._step, step)

    def finish(self, figures: dict[str, float]) -> None:
        """Write the results at the last step, which the table of settings shows beside them."""
        for name, value in figures.items():
            self._at("").add_scalar(name, value, self._step)
        self._at("").file_writer.add_summary(self._ended)
        self._close()

    def abandon(self, *, failed: bool) -> None:
        """Leave the run without results, as one that is still running."""
        self._close()

    def _close(self) -> None:
        for writer in self._open.values():
            writer.close()
