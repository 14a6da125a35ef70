"""Two processes that train together: the loss and the gradients of one process on all samples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_features, make_spec

from oodml.errors import UsageError
from oodml.train import distributed
from oodml.train.build import Resources, objective_of
from oodml.train.data import FeatureSamples
from oodml.train.loop import fit
from oodml.train.objective import Batch, Training
from oodml.train.registry import parse_method

METHODS = (
    "margin",
    "multi_similarity",
    "arcface",
    "proxy_anchor",
    "s2sd",
    "uniform_prior",
    "xbm",
    "mic:auxiliary=0.4",
    "arcface in 3 parts",
)
SPEC = make_spec(
    "",
    embedding_dim=4,
    batch_size=24,
    steps=5,
    clip_norm=1.0,
)


def trained(method: str, directory: Path) -> dict[str, object]:
    """Loss and gradients of the first step, then weights, log and checkpoints after five."""
    features = make_features(12, 6, 8)
    training = Training(FeatureSamples(features.values, features.labels), seed=0)
    name, _, parts = method.partition(" ")
    name, given = parse_method(name)
    spec = SPEC.with_settings(method=name, hyperparameters=given, accumulation=3 if parts else 1)
    objective = objective_of(spec, training.samples, 12, Resources(features), 0)
    seen: list[float] = []
    gradients: list[dict[str, torch.Tensor]] = []

    def note(training: Training, batch: Batch) -> None:
        if batch.step == 0:
            gradients.append(
                {
                    name: parameter.grad.clone()
                    for name, parameter in objective.named_parameters()
                    if parameter.grad is not None
                }
            )
        type(objective).after_step(objective, training, batch)

    objective.after_step = note  # type: ignore[method-assign]
    figures = fit(objective, training, directory)
    seen.append(figures["loss"])
    return {"gradients": gradients[0], "losses": seen, "weights": objective.state_dict()}


def main() -> None:
    """What `torchrun` starts twice."""
    directory = Path(sys.argv[1])
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    for method in METHODS:
        (directory / method).mkdir(exist_ok=True)
        torch.save(
            trained(method, directory / method), directory / f"{method}.{distributed.rank()}"
        )
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("processes")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        __file__, str(directory),
    ]  # fmt: skip
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return directory


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_equal_one(method: str, of_two: Path, tmp_path: Path) -> None:
    alone = trained(method, tmp_path)
    for rank in (0, 1):
        together = torch.load(of_two / f"{method}.{rank}", weights_only=True)
        assert together["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        assert together["gradients"].keys() == alone["gradients"].keys()  # type: ignore[attr-defined]
        for part, tolerance in (("gradients", 1e-5), ("weights", 2e-3)):
            for name, value in alone[part].items():  # type: ignore[attr-defined]
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    torch.testing.assert_close(
                        together[part][name], value, atol=tolerance, rtol=1e-3, msg=name
                    )


def test_only_one_of_two_processes_writes(of_two: Path) -> None:
    for method in METHODS:
        assert len((of_two / method / "epochs.jsonl").read_text().splitlines()) == 2


def test_a_batch_that_does_not_divide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(UsageError, match=r"25 .* 2 processes"):
        distributed.share_of(25)


if __name__ == "__main__":
    main()
