"""Checkpoints that are hostile, cut or of another layout: nothing runs, training begins anew."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from oodml.train.checkpoint import Checkpoint, Progress


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


class Objective(torch.nn.Linear):
    """As much of an objective as a checkpoint needs."""

    def private_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {}


def checkpoint(folder: Path, width: int = 3) -> Checkpoint:
    objective: Any = Objective(width, 2)
    return Checkpoint(folder, objective, torch.optim.Adam(objective.parameters()))


def with_payload(whole: bytes, marker: Path) -> bytes:
    """The same archive with another pickle: one that touches a file when it is loaded."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(out, "w") as archive:
        for name in source.namelist():
            hostile = pickle.dumps(Payload(marker), protocol=2)
            archive.writestr(name, hostile if name.endswith("data.pkl") else source.read(name))
    return out.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    made = checkpoint(tmp_path_factory.mktemp("whole"))
    made.save(Progress(steps=7))
    return made.path.read_bytes()


def test_a_checkpoint_that_would_run_code_runs_none(
    whole: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    marker = tmp_path / "ran"
    hostile = with_payload(whole, marker)
    for content in (hostile, pickle.dumps(Payload(marker))):
        (tmp_path / "last.pt").write_bytes(content)
        assert checkpoint(tmp_path).restore() == Progress()
        assert "the run starts from its beginning" in caplog.text and not marker.exists()
    torch.load(io.BytesIO(hostile), weights_only=False)
    assert marker.exists(), "the payload would run elsewhere"


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_cut_checkpoint_is_left_aside(whole: bytes, cut: int, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(whole)
    assert checkpoint(tmp_path).restore().steps == 7
    (tmp_path / "last.pt").write_bytes(whole[:cut])
    assert checkpoint(tmp_path).restore() == Progress()


@pytest.mark.parametrize(
    "state",
    [
        [1, 2],
        {"progress": {"steps": 1, "future": 2}, "objective": {}, "optimizers": {}},
        {"progress": {"steps": 1}, "objective": {}},
        {"progress": {"steps": "x"}, "objective": {}, "optimizers": {}},
    ],
    ids=range(4),
)
def test_a_checkpoint_of_another_layout_is_left_aside(state: Any, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "last.pt")
    assert checkpoint(tmp_path).restore() == Progress()


@pytest.mark.parametrize("part", ["objective", "optimizers"])
def test_a_checkpoint_of_another_model_leaves_this_one_as_it_was(part: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / "other").mkdir()
    other = checkpoint(tmp_path / "other", width=5)
    other.save(Progress(steps=7))
    own = checkpoint(tmp_path)
    own.save(Progress(steps=3))
    state = torch.load(own.path, weights_only=True)
    state[part] = torch.load(other.path, weights_only=True)[part]
    if part == "optimizers":
        state[part]["main"]["param_groups"] = "x"
        state["objective"]["weight"] += 1
    torch.save(state, own.path)
    before = own.objective.weight.clone()
    assert own.restore() == Progress() and torch.equal(own.objective.weight, before)
