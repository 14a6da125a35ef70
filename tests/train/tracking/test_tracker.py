"""Trackers: what they are told, runs that go on, failures that do not matter.

TensorBoard is tried for real. Weights & Biases and MLflow are tried for real where they are
installed; elsewhere recorders of their calls say only that we ask for what their documents name.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from oodml.errors import UsageError
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder
from oodml.train import loop
from oodml.train.build import Resources
from oodml.train.plan import plan
from oodml.train.run import train_run
from oodml.train.stopping import StoppedError
from oodml.train.tracking import check_tracker
from oodml.train.tracking import mlflow as on_mlflow
from oodml.train.tracking import tensorboard as on_tensorboard
from oodml.train.tracking import tracker as tracker_module
from oodml.train.tracking import wandb as on_wandb
from oodml.train.tracking.tracker import TrackedRun, epoch_figures, tracked_run

SETTINGS = {"steps": 20, "epoch_steps": 5, "batch_size": 24, "embedding_dim": 8}
Train = Callable[..., RunRecord]


@pytest.fixture
def spec(ladder: Ladder) -> RunSpec:
    (spec,) = plan(ladder, ["margin"], [3], rungs=[1], **SETTINGS)  # type: ignore[arg-type]
    return spec


@pytest.fixture
def trained(ladder: Ladder, features: Features, tmp_path: Path) -> Train:
    def trained(spec: RunSpec, track: str = "tensorboard", store: str = "store") -> RunRecord:
        directory = Store(tmp_path / store).run_directory(spec.id)
        return train_run(spec, ladder.rungs[1], Resources(features), directory, track=track)

    return trained


@pytest.fixture(autouse=True)
def all_trackers_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module, "_away", set())


def folder_of(spec: RunSpec, ladder: Ladder, store: Path) -> Path:
    run = tracked_run(spec, ladder.rungs[1], Store(store).run_directory(spec.id))
    return store / "tensorboard" / run.name


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_an_unknown_tracker_gets_the_closest_name(spec: RunSpec, trained: Train) -> None:
    with pytest.raises(UsageError, match=r"'tensorbord'.*'tensorboard'"):
        trained(spec, "tensorbord")
    check_tracker("")


def test_a_package_that_is_not_installed_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "TRACKERS", ("no_such_tracker",))
    with pytest.raises(UsageError, match=r"pip install 'oodml\[track\]'"):
        check_tracker("no_such_tracker")
    (tmp_path / "no_such_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"pip install 'oodml\[track\]'"):
        check_tracker("no_such_tracker")


def test_a_tracked_run_has_the_result_of_an_untracked_one(
    spec: RunSpec, trained: Train, tmp_path: Path
) -> None:
    one, other = trained(spec), trained(spec, "", "other")
    assert (one.metrics, one.training, one.geometry) == (
        other.metrics,
        other.training,
        other.geometry,
    )
    logs = [
        (Store(tmp_path / store).run_directory(spec.id) / "epochs.jsonl").read_bytes()
        for store in ("store", "other")
    ]
    assert logs[0] == logs[1] != b""


def test_tensorboard_shows_the_epochs_the_results_and_the_settings(
    spec: RunSpec, trained: Train, ladder: Ladder, tmp_path: Path
) -> None:
    record = trained(spec)
    (folder,) = (tmp_path / "store" / "tensorboard").iterdir()
    assert folder.name == f"margin-fid{ladder.rungs[1].fid:.4g}-seed3-{spec.id}"
    seen = events(folder)
    log = Store(tmp_path / "store").run_directory(spec.id) / "epochs.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for name in ("loss", "gradient_norm", "variance"):
        written = [(5 * at + 5, pytest.approx(line[name])) for at, line in enumerate(lines)]
        assert seen[f"training/{name}"] == written
    for name, value in record.metrics.items():
        assert seen[f"test/{name}"] == [(20, pytest.approx(value))]
    assert seen["shift/fid"] == [(20, pytest.approx(ladder.rungs[1].fid))]
    raw = EventAccumulator(str(folder)).Reload().SummaryMetadata("_hparams_/session_start_info")
    assert b"learning_rate" in raw.plugin_data.content
    assert b"mean_average_precision_at_r" in raw.plugin_data.content


def test_every_model_of_an_ensemble_has_its_curve(
    ladder: Ladder, trained: Train, tmp_path: Path
) -> None:
    (spec,) = plan(ladder, ["margin"], [3], rungs=[1], ensemble=2, **SETTINGS)  # type: ignore[arg-type]
    record = trained(spec)
    folder = folder_of(spec, ladder, tmp_path / "store")
    assert " " not in folder.name
    curves = [events(folder / member)["training/loss"] for member in ("member0", "member1")]
    assert [step for step, _ in curves[0]] == [step for step, _ in curves[1]] == [5, 10, 15, 20]
    assert curves[0] != curves[1]
    assert events(folder)["test/recall_at_1"][0][1] == pytest.approx(record.metrics["recall_at_1"])


def stopped_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    asked: list[int] = []

    def stop_requested() -> bool:
        asked.append(1)
        return len(asked) == steps

    monkeypatch.setattr(loop, "stop_requested", stop_requested)


def test_a_run_that_goes_on_has_each_epoch_once(
    spec: RunSpec, trained: Train, ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(spec, store="straight")
    stopped_after(monkeypatch, 7)
    with pytest.raises(StoppedError):
        trained(spec)
    store = tmp_path / "store"
    run = tracked_run(spec, ladder.rungs[1], Store(store).run_directory(spec.id))
    killed = on_tensorboard.begin(run)
    killed.start("", 5)
    killed.epoch("", 10, {"loss": 7.0})
    assert events(folder_of(spec, ladder, store))["training/loss"][-1] == (10, 7.0)
    # TensorBoard reads the files of a folder in the order of the seconds in their names.
    time.sleep(1 - time.time() % 1)
    trained(spec)
    seen = events(folder_of(spec, ladder, store))
    straight = events(folder_of(spec, ladder, tmp_path / "straight"))
    assert seen.pop("seconds") and straight.pop("seconds")
    assert [step for step, _ in seen["training/loss"]] == [5, 10, 15, 20]
    assert seen == straight


def test_a_folder_that_cannot_be_written_is_said_once(
    spec: RunSpec, trained: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "tensorboard").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "oodml"):
        record = trained(spec)
    (said,) = caplog.messages
    assert said.startswith("tracking margin-fid") and "goes on without it" in said
    assert record.metrics == trained(spec, "", "other").metrics


class Recorder:
    """A tracker that notes what it hears, and fails where it is told to."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.heard = failing, list[Any]()

    def begin(self, run: TrackedRun) -> Recorder:
        self._hear("begin", run.id)
        return self

    def _hear(self, *what: Any) -> None:
        self.heard.append(what)
        if what[0] == self.failing:
            raise OSError("no space left\nin many lines")

    def start(self, member: str, step: int) -> None:
        self._hear("start", member, step)

    def epoch(self, member: str, step: int, figures: dict[str, float]) -> None:
        self._hear("epoch", member, step)

    def finish(self, figures: dict[str, float]) -> None:
        self._hear("finish", figures["test/recall_at_1"])

    def abandon(self, *, failed: bool) -> None:
        self._hear("abandon", failed)
        if self.failing:
            raise OSError("still no space left")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "oodml.train.tracking.tensorboard", recorder)  # type: ignore[arg-type]
    return recorder


@pytest.mark.parametrize("failing", ["begin", "start", "epoch", "finish"])
def test_a_tracker_that_fails_is_named_once_and_dropped(
    failing: str,
    spec: RunSpec,
    trained: Train,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder.failing = failing
    with caplog.at_level(logging.WARNING, "oodml"):
        record = trained(spec)
    (said,) = caplog.messages
    assert "tensorboard" in said and "(no space left);" in said
    assert record.status == "done"
    told = [what[0] for what in recorder.heard]
    assert told.count(failing) == 1
    assert told[-1] == ("begin" if failing == "begin" else "abandon")


def test_a_tracker_that_cannot_begin_is_not_tried_by_later_runs(
    spec: RunSpec, trained: Train, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.failing = "begin"
    with caplog.at_level(logging.WARNING, "oodml"):
        trained(spec)
        trained(spec, store="other")
    assert len(recorder.heard) == len(caplog.messages) == 1


def test_a_run_is_closed_whatever_ends_it(
    spec: RunSpec, trained: Train, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_after(monkeypatch, 7)
    with pytest.raises(StoppedError):
        trained(spec)
    assert recorder.heard[1:] == [("start", "", 0), ("epoch", "", 5), ("abandon", False)]
    recorder.heard.clear()
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr("oodml.train.run.geometry", lambda _: 1 / 0)
        trained(spec)
    epochs = [("epoch", "", step) for step in (10, 15, 20)]
    assert recorder.heard[1:] == [("start", "", 5), *epochs, ("abandon", True)]
    recorder.heard.clear()
    record = trained(spec, store="other")
    assert recorder.heard[-1] == ("finish", record.metrics["recall_at_1"])


def test_only_the_first_rank_tracks(
    spec: RunSpec, trained: Train, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "rank", lambda: 1)
    trained(spec)
    assert not recorder.heard


@pytest.fixture
def run(spec: RunSpec, ladder: Ladder, tmp_path: Path) -> TrackedRun:
    return tracked_run(spec, ladder.rungs[1], Store(tmp_path).run_directory(spec.id))


def test_settings_are_flat_and_a_run_outside_a_store_keeps_its_own_folder(
    run: TrackedRun, spec: RunSpec, ladder: Ladder, tmp_path: Path
) -> None:
    assert run.directory == tmp_path
    other = spec.with_settings(hyperparameters={"beta": 1.5})
    alone = tracked_run(other, ladder.rungs[1], tmp_path / "alone")
    assert alone.directory == tmp_path / "alone"
    assert alone.settings["hyperparameters.beta"] == 1.5
    assert alone.settings["learning_rate"] == 1e-3 and alone.settings["split"] == ladder.rungs[1].id
    assert epoch_figures({"loss": 1.0}, "fold0") == {"fold0/training/loss": 1.0}


def test_wandb_is_asked_to_go_on_with_the_run_of_the_same_id(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    session = SimpleNamespace(
        log=lambda figures: calls.append(figures),
        summary={},
        finish=lambda *, exit_code: calls.append(exit_code),
        define_metric=lambda *names, **how: calls.append((*names, how)),
    )
    asked: dict[str, Any] = {}
    package = SimpleNamespace(Settings=dict, init=lambda **how: asked.update(how) or session)
    monkeypatch.setitem(sys.modules, "wandb", package)  # type: ignore[arg-type]
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    tracker = on_wandb.begin(run)
    assert (asked["id"], asked["resume"], asked["project"]) == (run.id, "allow", "mine")
    assert asked["name"] == run.name and asked["config"] == run.settings
    tracker.start("fold0", 5)
    tracker.epoch("fold0", 10, {"loss": 0.5})
    tracker.finish({"test/recall_at_1": 0.25})
    assert ("fold0/training/*", {"step_metric": "fold0/step"}) in calls
    assert calls[-2:] == [{"fold0/step": 10, "fold0/training/loss": 0.5}, 0]
    assert session.summary == {"test/recall_at_1": 0.25}
    tracker.abandon(failed=True)
    assert calls[-1] == 1


def test_wandb_writes_a_run_offline(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for step in (5, 10):
        tracker = on_wandb.begin(run)
        tracker.start("", step - 5)
        tracker.epoch("", step, {"loss": 1 / step})
        tracker.finish({"test/recall_at_1": 0.25})
    written = list(run.directory.glob(f"wandb/offline-run-*/run-{run.id}.wandb"))
    assert written and all(b"training/loss" in file.read_bytes() for file in written)


def test_mlflow_goes_on_with_the_run_of_the_same_tag(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first = on_mlflow.begin(run)
    first.start("", 0)
    first.epoch("", 5, {"loss": 0.5})
    first.abandon(failed=True)
    client = mlflow.MlflowClient(f"sqlite:///{run.directory / 'mlflow.db'}")
    assert client.get_run(first.run_id).info.status == "FAILED"
    second = on_mlflow.begin(run)
    assert second.run_id == first.run_id
    assert client.get_run(first.run_id).info.status == "RUNNING"
    second.start("", 5)
    second.epoch("", 10, {"loss": 0.25})
    second.finish({"test/recall_at_1": 0.75})
    seen = client.get_run(first.run_id)
    assert (seen.info.status, seen.info.run_name) == ("FINISHED", run.name)
    assert seen.data.params["seed"] == "3" and seen.data.metrics["test/recall_at_1"] == 0.75
    losses = client.get_metric_history(first.run_id, "training/loss")
    assert [(each.step, each.value) for each in losses] == [(5, 0.5), (10, 0.25)]


class Client:
    """A recorder of MLflow's client, with as many runs as it is given."""

    def __init__(self, runs: list[Any]) -> None:
        self.runs, self.calls = runs, list[Any]()

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=f"experiment {name}")

    def search_runs(self, experiments: list[str], filter_string: str, max_results: int) -> Any:
        self.calls.append((experiments, filter_string))
        return self.runs

    def __getattr__(self, name: str) -> Any:
        created = SimpleNamespace(info=SimpleNamespace(run_id="new"))

        def called(*given: Any, **named: Any) -> Any:
            self.calls.append((name, *given, named))
            return created

        return called


@pytest.mark.parametrize("known", [False, True])
def test_mlflow_is_asked_for_the_tag_and_makes_a_run_only_if_there_is_none(
    known: bool, run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = SimpleNamespace(info=SimpleNamespace(run_id="old"))
    client = Client([old] if known else [])
    package = SimpleNamespace(
        MlflowClient=lambda uri: client,
        is_tracking_uri_set=lambda: True,
        entities=SimpleNamespace(Param=lambda *given: given, Metric=lambda *given: given),
    )
    monkeypatch.setitem(sys.modules, "mlflow", package)  # type: ignore[arg-type]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    tracker = on_mlflow.begin(run)
    assert client.calls[0] == (["experiment mine"], f"tags.oodml_run = '{run.id}'")
    made = [call for call in client.calls if call[0] == "create_run"]
    if known:
        assert not made and tracker.run_id == "old"
    else:
        assert made[0][-1]["tags"]["oodml_run"] == run.id
        assert ("seed", "3") in client.calls[-1][-1]["params"]
    tracker.abandon(failed=False)
    assert client.calls[-1][:3] == ("set_terminated", tracker.run_id, "KILLED")
