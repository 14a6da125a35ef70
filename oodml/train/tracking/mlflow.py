"""Runs in MLflow: on the user's server (`MLFLOW_TRACKING_URI`), or in STORE/mlflow.db."""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import Any

from oodml.files import locked
from oodml.train.tracking.tracker import PROJECT, TrackedRun, epoch_figures

TAG = "oodml_run"
# What the oldest servers in use accept; longer values end a run there.
VALUE_LENGTH = 500


def begin(run: TrackedRun) -> MlflowRun:
    """The run tagged with the same id, begun or continued, in `MLFLOW_EXPERIMENT_NAME`.

    Without that the experiment is "oodml".
    """
    # MLflow's own 7 tries hold a run for four minutes where no server answers.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    mlflow = import_module("mlflow")
    if mlflow.is_tracking_uri_set():
        return _begun(mlflow, None, run)
    # Two workers that make the tables of a new database at once end each other's.
    with locked(run.directory / ".mlflow.lock"):
        return _begun(mlflow, f"sqlite:///{run.directory / 'mlflow.db'}", run)


def _begun(mlflow: Any, uri: str | None, run: TrackedRun) -> MlflowRun:
    client = mlflow.MlflowClient(uri)
    experiment = _experiment(client, os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    return MlflowRun(client, _run_of(client, experiment, run, mlflow.entities), mlflow.entities)


def _experiment(client: Any, name: str) -> str:
    """The id of the experiment; another worker may be making it at this moment."""
    error: Exception | None = None
    for make in (False, True, False):
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        if make:
            try:
                return str(client.create_experiment(name))
            except Exception as failure:  # the package's own class, which is not imported here
                error = failure
    raise error or RuntimeError(f"no experiment {name!r}")


def _run_of(client: Any, experiment: str, run: TrackedRun, entities: Any) -> str:
    """The id of MLflow's run for ours; the newest, should there be several."""
    found = client.search_runs([experiment], f"tags.{TAG} = '{run.id}'", max_results=1)
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    tags = {TAG: run.id, "group": run.group}
    created = client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
    params = [
        entities.Param(name, str(value)[:VALUE_LENGTH]) for name, value in run.settings.items()
    ]
    client.log_batch(created, params=params)
    return str(created)


class MlflowRun:
    """One run, by a client of its own: the caller's active run is left alone."""

    def __init__(self, client: Any, run_id: str, entities: Any) -> None:
        self.client, self.run_id, self._entities = client, run_id, entities
        self._step = 0

    def start(self, member: str, step: int) -> None:
        """Nothing to do: epochs that come again after a kill are kept beside the first."""

    def epoch(self, member: str, step: int, figures: dict[str, float]) -> None:
        """Log the figures of an epoch."""
        self._log(epoch_figures(figures, member), step)
        self._step = max(self._step, step)

    def finish(self, figures: dict[str, float]) -> None:
        """Log the results at the last step, and end the run."""
        self._log(figures, self._step)
        self.client.set_terminated(self.run_id, "FINISHED")

    def abandon(self, *, failed: bool) -> None:
        """End the run without results; it is resumed under the same id."""
        self.client.set_terminated(self.run_id, "FAILED" if failed else "KILLED")

    def _log(self, figures: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(name, value, now, step) for name, value in figures.items()]
        self.client.log_batch(self.run_id, metrics=metrics)
