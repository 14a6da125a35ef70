"""What an epoch was like: its log, its figures, and whether the embedding has collapsed."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from torch import Tensor

from oodml.files import atomic_write
from oodml.train.checkpoint import Progress
from oodml.train.distributed import rank
from oodml.train.tracking import Curves

# Figures other than the loss are taken at every tenth step of an epoch, the first among them.
DIAGNOSED = 10
# Total variance of unit vectors, between 0 (all equal) and 1; rounding leaves about 1e-7.
COLLAPSED = 1e-4
log = logging.getLogger("oodml")


class EpochLog:
    """`epochs.jsonl`, one line an epoch; on resume the lines past the checkpoint are dropped.

    `tracker` hears the same.
    """

    def __init__(self, path: Path, progress: Progress, tracker: Curves | None = None) -> None:
        self.path, self.progress, self.tracker = path, progress, tracker
        if rank():
            return
        kept = [line for line in self._lines() if line["epoch"] < progress.epoch]
        with atomic_write(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        if tracker is not None:
            tracker.start(progress.epoch_start)

    def _lines(self) -> list[dict[str, float]]:
        """The whole lines of the file; a kill may have torn the last one."""
        lines: list[dict[str, float]] = []
        for text in self.path.read_bytes().splitlines() if self.path.exists() else []:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                break
            if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
                break
            lines.append(line)
        return lines

    def add(self, figures: dict[str, float]) -> None:
        """Note the figures of one step."""
        progress = self.progress
        for name, value in figures.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.counts[name] = progress.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The mean of every figure over the steps of the epoch that noted it."""
        progress = self.progress
        return {name: total / progress.counts[name] for name, total in progress.sums.items()}

    def close(self, **more: float) -> dict[str, float]:
        """Write the line of the epoch that ends, and return its figures."""
        figures = {**self.means(), **more}
        steps = self.progress.steps - self.progress.epoch_start
        if steps and not rank():
            with self.path.open("a") as file:
                line = {"epoch": self.progress.epoch, "steps": steps, **figures}
                file.write(json.dumps(line, allow_nan=False) + "\n")
            if self.tracker is not None:
                self.tracker.epoch(self.progress.steps, figures)
        return figures


@torch.no_grad()
def diagnostics(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """What a step did: distances within and between classes, and the share of active samples.

    `embeddings` (B, D) are of unit length; their gradient, if there is one, says which samples the
    loss still moves. `variance` is 1 minus the squared length of the mean embedding: 0 when all
    are equal.
    """
    distances = torch.cdist(embeddings, embeddings)
    same = labels[:, None] == labels[None, :]
    pairs = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    figures = {"variance": float(1 - embeddings.mean(0).square().sum())}
    for name, chosen in (("positive_distance", same & pairs), ("negative_distance", ~same)):
        if chosen.any():
            figures[name] = float(distances[chosen].mean())
    if embeddings.grad is not None:
        moved = (embeddings.grad != 0).any(1)
        figures["active_fraction"] = float(moved.float().mean())
    return figures


def has_collapsed(figures: dict[str, float], label: str) -> bool:
    """Whether the epoch's embeddings were all equal; named in the log."""
    if figures.get("variance", 1.0) >= COLLAPSED:
        return False
    log.warning(
        "%s: the embedding has collapsed: all samples lie at one point (loss %.4g); lower the "
        "learning rate or choose an easier miner.",
        label,
        figures.get("loss", float("nan")),
    )
    return True
