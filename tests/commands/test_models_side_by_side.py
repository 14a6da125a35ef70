"""Runs of several models in one directory: their names, and what --by compares."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from commands.conftest import METHODS, done, records_of, refused

from oodml.runs.record import RunRecord
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder

MODELS = ("none", "resnet50")


def on_model(record: RunRecord, backbone: str, better: float) -> RunRecord:
    spec = record.spec.with_settings(backbone=backbone, weights="1" * 64)
    return replace(
        record, spec=spec, metrics={"recall_at_1": record.metrics["recall_at_1"] + better}
    )


@pytest.fixture(scope="module")
def models(ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of every method on the ladder's own network and on a better one."""
    directory = tmp_path_factory.mktemp("models")
    ladder.save(directory / "ladder.json")
    for record in records_of(ladder):
        Store(directory).finish(record)
        Store(directory).finish(on_model(record, "resnet50", 0.1))
    return directory


def long(command: str, *arguments: object) -> list[dict[str, str]]:
    output = done(command, *arguments, "--format", "csv").output
    return list(csv.DictReader(io.StringIO(output)))


def test_lines_are_named_after_method_and_model(models: Path) -> None:
    for view in ("curves", "scores", "deviation", "comparisons", "ranks", "few-shot"):
        output = done("table", models, "--view", view).output
        assert "margin @ resnet50" in output and "margin @ none" in output
    rows = long("table", models)
    assert {(row["method"], row["backbone"]) for row in rows} == {
        (method, model) for method in METHODS for model in MODELS
    }


def test_by_chooses_what_is_compared(models: Path) -> None:
    pairs = long("table", models, "--view", "comparisons")
    assert len(pairs) == 28
    of_methods = long("table", models, "--view", "comparisons", "--by", "method")
    assert len(of_methods) == 12
    assert all(row["first_backbone"] == row["second_backbone"] for row in of_methods)
    of_models = long("table", models, "--view", "comparisons", "--by", "backbone")
    assert len(of_models) == 4
    for row in of_models:
        assert row["first"] == row["second"] and row["first_backbone"] == "resnet50"
        assert float(row["difference"]) == pytest.approx(0.1)
    for by, most in (("method", 4), ("backbone", 2)):
        ranks = long("table", models, "--view", "ranks", "--by", by)
        assert max(float(row["rank"]) for row in ranks) == most
        deviations = long("table", models, "--view", "deviation", "--by", by)
        assert len(deviations) == 24
        assert (
            f"mean of the {by}s" in done("table", models, "--view", "deviation", "--by", by).output
        )


def test_properties_of_several_models_are_correlated_by_choice(models: Path) -> None:
    assert "none, resnet50" in refused(2, "analyze", models)
    assert "--by" in refused(2, "analyze", models)
    assert {row["group"] for row in long("analyze", models, "--by", "method")} == set(MODELS)
    assert {row["group"] for row in long("analyze", models, "--by", "backbone")} == set(METHODS)


def test_by_draws_other_charts(models: Path, tmp_path: Path) -> None:
    charts = {}
    for by in ((), ("--by", "method"), ("--by", "backbone")):
        done("plot", models, "--view", "deviation", *by, "-o", tmp_path / "deviation.svg")
        charts[by] = (tmp_path / "deviation.svg").read_bytes()
    assert len(set(charts.values())) == 3
    done("plot", models, "--view", "geometry", "--by", "method", "-o", tmp_path / "geometry.svg")
    assert b"resnet50" in (tmp_path / "geometry.svg").read_bytes()


@pytest.mark.parametrize("command", ["table", "plot"])
@pytest.mark.parametrize("view", ["curves", "scores", "few-shot", "transfer"])
def test_by_is_refused_where_it_has_no_effect(models: Path, command: str, view: str) -> None:
    assert "--by" in refused(2, command, models, "--view", view, "--by", "method")


def test_by_needs_two_of_what_it_compares_and_something_that_it_leaves_out(runs: Path) -> None:
    for command in (("table", "--view", "ranks"), ("plot", "--view", "deviation"), ("analyze",)):
        assert "leave it out" in refused(2, command[0], runs, *command[1:], "--by", "method")
    assert "backbone" in refused(2, "table", runs, "--view", "ranks", "--by", "backbone")
    assert "--by" in refused(
        2, "table", "--published", "cub200", "--view", "ranks", "--by", "method"
    )
