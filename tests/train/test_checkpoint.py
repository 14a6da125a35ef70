"""Checkpoints: what a damaged file costs, and when one is written."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
import torch
from conftest import make_spec
from torch import nn

from oodml.train import checkpoint
from oodml.train.checkpoint import Checkpoint, Progress
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Criterion, Objective

SPEC = make_spec("margin")


def kept_in(directory: Path, seed: int) -> Checkpoint:
    torch.manual_seed(seed)
    objective = Objective(SPEC, EmbeddingModel(nn.Linear(3, 2), 2, 2), Criterion(nn.Identity()))
    return Checkpoint(directory, objective, torch.optim.Adam(objective.parameters()))


def weights(of: Checkpoint) -> torch.Tensor:
    return of.objective.model.head.weight.detach().clone()


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
@pytest.mark.parametrize("damage", ["torn", "other", "gone"])
def test_a_damaged_file_starts_the_run_again(
    name: str, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written = kept_in(tmp_path, 0)
    progress = Progress(steps=4, epoch=2, epoch_start=3, best=0.5, best_epoch=1)
    written.save_best()
    written.save(progress)
    resumed = kept_in(tmp_path, 1)
    assert resumed.restore() == progress and torch.equal(weights(resumed), weights(written))
    file = tmp_path / name
    if damage == "torn":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "other":
        torch.save({"progress": {}, "objective": {"a": torch.ones(1)}}, file)
    else:
        file.unlink()
    fresh = kept_in(tmp_path, 2)
    before = weights(fresh)
    with caplog.at_level(logging.WARNING, "oodml"):
        assert fresh.restore() == Progress()
    assert torch.equal(weights(fresh), before)
    assert (name in caplog.text) == ((name, damage) != ("last.pt", "gone"))


def test_a_checkpoint_is_written_when_it_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    each = kept_in(tmp_path, 0)
    write = each._write

    def slowly(path: Path, state: object, *, durable: bool = True) -> None:
        nonlocal now
        write(path, state, durable=durable)
        now += 2.0

    monkeypatch.setattr(each, "_write", slowly)
    seen = []
    for step in range(60):
        each.save_if_due(Progress(steps=step))
        if each.path.exists():
            seen.append(step)
            each.path.unlink()
        now += 1.0
    first = int(checkpoint.SECONDS)
    # Two seconds a write may be a tenth of the time: 20 seconds from one to the next.
    assert seen == [first, first + 18, first + 36, first + 54]
    assert list(tmp_path.iterdir()) == []
