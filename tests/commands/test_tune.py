"""`oodml tune`: its table, its grid file, its errors, and that it goes on where it was stopped."""

from __future__ import annotations

import builtins
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from commands.conftest import done, oodml, refused

from oodml.features.features import Features
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder
from oodml.train.plan import plan

QUICK = (
    *("--steps", 3, "--train-batch-size", 24, "--embedding-dim", 4),
    *("--workers", 1, "--rung", 0),
)


@pytest.fixture
def paths(features: Features, ladder: Ladder, tmp_path: Path) -> tuple[str, str, str, str]:
    """The arguments that name ladder, data and output."""
    features.save(tmp_path / "features.npz")
    ladder.save(tmp_path / "ladder.json")
    return (
        *(str(tmp_path / "ladder.json"), "--data", str(tmp_path / "features.npz")),
        f"--output={tmp_path / 'out'}",
    )


def tuned(*arguments: object) -> Result:
    return done("tune", *arguments)


def best_of(store: Store, method: str, metric: str = "mean_average_precision_at_r") -> RunSpec:
    records = [record for record in store.records() if record.spec.method.name == method]
    return max(records, key=lambda record: record.metrics[metric]).spec


def from_grid(grid: dict[str, Any], ladder: Ladder) -> RunSpec:
    """The run that a grid table stands for."""
    settings = {
        {"train-batch-size": "batch_size"}.get(key, key.replace("-", "_")): value
        for key, value in grid.items()
        if key not in ("methods", "hyperparameters")
    }
    pairs = ",".join(f"{k}={json.dumps(v)}" for k, v in grid["hyperparameters"].items())
    (spec,) = plan(ladder, [f"{grid['methods'][0]}:{pairs}"], [0], rungs=[0], **settings)
    return spec


def test_the_grid_file_holds_exactly_the_best_trials_settings(
    paths: tuple[str, ...], ladder: Ladder, tmp_path: Path
) -> None:
    result = tuned(
        *paths, *QUICK, "-m", "margin", "-m", "contrastive", "--trials", 5, "--format", "json",
        "--weight-decay", 0.001,
    )  # fmt: skip
    store = Store(tmp_path / "out" / "trials")
    assert {record.spec.data.measured_on for record in store.records()} == {"validation"}
    grids = tomllib.loads((tmp_path / "out" / "best.toml").read_text())["grid"]
    assert [grid["methods"] for grid in grids] == [["margin"], ["contrastive"]]
    for grid in grids:
        best = best_of(store, grid["methods"][0])
        assert from_grid(grid, ladder).with_settings(measured_on="validation") == best
        assert grid["steps"] == 3 and grid["weight-decay"] == 0.001 and "pooling" not in grid
    rows = json.loads(result.stdout)
    top = next(row for row in rows if row["method"] == "margin")
    assert top["setting"] == "mean_average_precision_at_r" and top["searched"] == "5 trials"
    record = store.record(best_of(store, "margin").id)
    assert record is not None and top["best"] == record.metrics[top["setting"]] >= top["default"]
    rates = [row for row in rows if row["setting"] == "learning_rate"]
    assert [row["searched"] for row in rates] == ["0.0001..0.01"] * 2
    assert rates[0]["best"] == grids[0]["learning-rate"] and rates[0]["default"] == 0.001


def test_the_file_is_what_oodml_run_takes(paths: tuple[str, ...], tmp_path: Path) -> None:
    from oodml.commands.grid_file import read_grids
    from oodml.commands.run import run_command

    file = tmp_path / "chosen.toml"
    tuned(*paths, *QUICK, "-m", "s2sd:base=contrastive", "--trials", 1, "--grid-file", file)
    (grid,) = read_grids(file, run_command)
    assert grid.methods[0].startswith("s2sd:base=contrastive,")
    assert grid.options["steps"] == 3 and grid.options["learning_rate"] == 0.001
    assert not (tmp_path / "out" / "best.toml").exists()


def test_what_was_typed_stays_unless_its_space_is_named(
    paths: tuple[str, ...], ladder: Ladder, tmp_path: Path
) -> None:
    method = ("-m", "margin:beta=0.7", "--learning-rate", 0.003)
    tuned(*paths, *QUICK, *method, "--trials", 3, "--space", "margin=0.1..0.3")
    specs = [record.spec for record in Store(tmp_path / "out" / "trials").records()]
    assert {spec.method.hyperparameters["beta"] for spec in specs} == {0.7}
    assert {spec.training.learning_rate for spec in specs} == {0.003}
    margins = [spec.method.hyperparameters.get("margin", 0.2) for spec in specs]
    assert len(set(margins)) == 3 and all(0.1 <= margin <= 0.3 for margin in margins)
    (grid,) = tomllib.loads((tmp_path / "out" / "best.toml").read_text())["grid"]
    assert grid["hyperparameters"]["beta"] == 0.7 and grid["learning-rate"] == 0.003


def test_starting_again_goes_on_and_more_trials_keep_the_first(
    paths: tuple[str, ...], tmp_path: Path
) -> None:
    method = (*QUICK, "-m", "contrastive")
    first = tuned(*paths, *method, "--trials", 2)
    runs = tmp_path / "out" / "trials" / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/run.json")}
    again = tuned(*paths, *method, "--trials", 2)
    assert again.stdout == first.stdout and len(before) == 2
    tuned(*paths, *method, "--trials", 3)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(runs.glob("*/run.json"))) == 3


def test_no_test_row_is_read(
    features: Features,
    ladder: Ladder,
    paths: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Guarded(np.ndarray):
        def __getitem__(self, rows: Any) -> Any:
            assert not forbidden & set(np.asarray(rows).ravel().tolist()), "a test row was read"
            return np.asarray(self)[rows]

    def opened(*_: Any, **__: Any) -> tuple[Features, None]:
        copy = replace(features)
        object.__setattr__(copy, "values", features.values.view(Guarded))
        return copy, None

    forbidden = set(features.of_classes(ladder.rungs[0].test_classes).tolist())
    monkeypatch.setattr("oodml.commands.grid.open_for_ladder", opened)
    tuned(*paths, *QUICK, "-m", "contrastive", "--trials", 2)
    assert "a test row was read" not in caplog.text
    oodml("run", *paths, *QUICK, "-m", "contrastive", "--seeds", 1)
    assert "a test row was read" in caplog.text, "the guard sees what an ordinary run reads"


def test_methods_without_anything_to_tune_are_left_out_with_a_line(
    paths: tuple[str, ...], tmp_path: Path
) -> None:
    result = tuned(*paths, *QUICK, "-m", "frozen", "-m", "contrastive", "--trials", 1)
    assert "left out: frozen (nothing to tune)" in result.stderr
    assert "nothing to tune" in refused(2, "tune", *paths, *QUICK, "-m", "frozen")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "margin", "--rung", 9), "this ladder has rungs 0 to"),
        (("-m", "margn"), "Did you mean 'margin'"),
        (("-m", "margin", "--space", "bet=1..2"), "Did you mean 'beta'"),
        (("-m", "margin", "--space", "beta=2..1"), "NAME=LOW..HIGH"),
        (("-m", "margin", "--space", "beta=low|high"), "not of the type"),
        (("-m", "margin", "--metric", "recall_at_11"), "Did you mean 'recall_at_1'"),
        (("-m", "margin", "--few-shot", "head"), "drawn from the test classes"),
        (("-m", "margin", "--folds", 3), "none to measure on"),
        (("-m", "margin", "--keep-embeddings"), "trials keep no embeddings"),
        (("-m", "margin", "--trials", 0), "0 is not in the range"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[object, ...], message: str, paths: tuple[str, ...], tmp_path: Path
) -> None:
    assert message in refused(2, "tune", *paths, *QUICK, *arguments)
    assert not list(tmp_path.rglob("run.json")) and not list(tmp_path.rglob("best.toml"))


def test_trials_that_all_fail_are_named_and_no_grid_is_written_for_them(
    paths: tuple[str, ...], tmp_path: Path
) -> None:
    failing = (*paths, *QUICK, "-m", "margin", "--train-batch-size", 4, "--trials", 2)
    assert "all 2 trials of margin failed" in refused(1, "tune", *failing)
    assert "grid" not in tomllib.loads((tmp_path / "out" / "best.toml").read_text())


def test_without_optuna_one_line_says_what_to_install(
    paths: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def without_optuna(name: str, *rest: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_optuna)
    line = refused(1, "tune", *paths, *QUICK, "-m", "margin")
    assert "pip install 'oodml[tune]'" in line
