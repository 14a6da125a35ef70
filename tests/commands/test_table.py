"""`oodml table` and `oodml analyze` on a directory of made-up runs."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands.conftest import METHODS, done, records_of, refused

from oodml.eval.statistics.cautions import TRAINING_ONLY
from oodml.eval.statistics.curves import summarize
from oodml.eval.statistics.scores import score_methods
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder


def long(*arguments: object) -> list[dict[str, str]]:
    """The rows of a table as csv."""
    output = done("table", *arguments, "--format", "csv").output
    return list(csv.DictReader(io.StringIO(output)))


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("curves", "AGS"),
        ("scores", "slope per 100 FID"),
        ("deviation", "mean of the methods"),
        ("comparisons", "margin above arcface on average"),
        ("ranks", "Kendall's tau"),
        ("few-shot", "zero-shot"),
    ],
)
@pytest.mark.parametrize("kind", ["text", "markdown", "latex", "csv", "json"])
def test_every_view_in_every_format(runs: Path, view: str, words: str, kind: str) -> None:
    output = done("table", runs, "--view", view, "--format", kind).output
    if kind == "json":
        assert all(isinstance(row, dict) for row in json.loads(output))
    elif kind == "csv":
        assert len({len(row) for row in csv.reader(io.StringIO(output))}) == 1
    else:
        assert words in output and ("tabular" in output) == (kind == "latex")
    if kind == "latex":
        outside = re.sub(r"(?s)\\begin\{tabular\}.*?\\end\{tabular\}", "", output)
        assert all(line.startswith("% ") for line in outside.splitlines() if line)


def test_classes_that_few_shot_leaves_out_are_named(runs: Path) -> None:
    output = done("table", runs, "--view", "few-shot").output
    assert "4 for 2 shots on rung 1" in output
    assert {(row["rung"], row["left_out"]) for row in long(runs, "--view", "few-shot")} == {
        ("0", "0"), ("1", "4"), ("2", "0"),
    }  # fmt: skip


def test_numbers_are_those_of_the_library(runs: Path, ladder: Ladder) -> None:
    records = Store(runs).records()
    scores = {s.series.method: s for s in score_methods(summarize(records, ladder), ladder)}
    for row in long(runs, "--view", "scores"):
        assert float(row["ags"]) == scores[row["method"]].mean
        assert row["ags_low"] == ("" if scores[row["method"]].low is None else row["ags_low"])
        assert float(row["slope"]) < 0 < float(row["lost"])
    pairs = long(runs, "--view", "comparisons")
    assert len(pairs) == 6
    means = {
        m: np.mean([r.metrics["recall_at_1"] for r in records if r.label == m]) for m in METHODS
    }
    for row in pairs:
        difference = means[row["first"]] - means[row["second"]]
        assert float(row["difference"]) == pytest.approx(difference)
    ranks = long(runs, "--view", "ranks")
    assert [row["method"] for row in ranks if row["rung"] == "0"] == list(METHODS)
    gains = long(runs, "--view", "few-shot")
    assert {(row["shots"], row["episodes"]) for row in gains} == {("2", "4")}


def test_gaps_are_named_in_every_table_of_curves(
    runs: Path, ladder: Ladder, tmp_path: Path
) -> None:
    ladder.save(tmp_path / "ladder.json")
    for record in Store(runs).records():
        if (record.label, record.spec.data.split) != ("margin", ladder.rungs[1].id):
            Store(tmp_path).finish(record)
    for view in ("curves", "scores"):
        output = done("table", tmp_path, "--view", view).output
        assert "missing for margin: rung 1 seed 0" in output
    (apart,) = {row["method"] for row in long(tmp_path, "--view", "deviation")
                if row["in_mean"] == "False"}  # fmt: skip
    assert apart == "margin"


def test_runs_that_do_not_belong_together_are_refused(
    runs: Path, ladder: Ladder, tmp_path: Path
) -> None:
    ladder.save(tmp_path / "ladder.json")
    store = Store(tmp_path)
    one, other, *_ = Store(runs).records()
    store.finish(one)
    store.finish(replace(other, spec=other.spec.with_settings(method="other", gallery_images=5)))
    for command in (("table", tmp_path), ("plot", tmp_path, "--view", "scores")):
        assert "gallery_images" in refused(1, *command)
    store.renew(replace(one, shift={**one.shift, "level": "class"}))
    assert "class level" in refused(1, "table", tmp_path)


def test_published_curves_stand_alone_and_beside() -> None:
    output = done("table", "--published", "cub200").output
    assert "0.677" in output and "arXiv:2107.09562" in output
    assert "proxy_anchor (published)" in output
    (row,) = [
        row
        for row in long("--published", "cars196", "--view", "scores")
        if row["method"] == "s2sd (published)"
    ]
    assert float(row["ags"]) == pytest.approx(0.8016, abs=5e-5)


def test_published_curves_stand_beside_runs(runs: Path) -> None:
    methods = [row["method"] for row in long(runs, "--view", "scores", "--published", "sop")]
    assert methods[:4] == list(METHODS) and len(methods) == 12
    text = done("table", runs, "--published", "sop").output
    assert "published curves of sop" in text and "margin  " in text


def test_runs_of_another_ladder_are_no_empty_table(ladder: Ladder, tmp_path: Path) -> None:
    rest = replace(ladder, rungs=ladder.rungs[1:], rung_steps=ladder.rung_steps[1:])
    rest.save(tmp_path / "ladder.json")
    for record in records_of(ladder):
        if record.spec.data.split == ladder.rungs[0].id:
            Store(tmp_path).finish(record)
    for metric in ("recall_at_1", "nonsense"):
        assert "this ladder" in refused(1, "table", tmp_path, "--metric", metric)


def test_analysis_holds_both_coefficients(runs: Path) -> None:
    text = done("analyze", runs, "--coefficient", "pearson").output
    assert "Pearson correlation" in text and "alignment" in text
    rows = json.loads(done("analyze", runs, "--format", "json").output)
    scopes = {row["scope"] for row in rows}
    assert scopes == {"rung 0", "rung 1", "rung 2", "pooled", "within"}
    assert all(-1 <= row["pearson"] <= 1 and -1 <= row["spearman"] <= 1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("table", 2, "--published"),
        ("table --published cub", 2, "Did you mean 'cub200'"),
        ("table --published sop --metric nmi", 2, "nmi"),
        ("table --published sop --view comparisons", 2, "comparisons"),
        ("table {runs} --view ranks --metric recall_at1", 2, "recall_at_1"),
        ("table absent", 1, "absent"),
        ("table {empty}", 1, "oodml run"),
        ("status absent", 1, "absent"),
        ("analyze {runs} --metric recal", 2, "Did you mean 'recall_at_1'"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    arguments: str, code: int, words: str, runs: Path, tmp_path: Path
) -> None:
    assert words in refused(code, *arguments.format(runs=runs, empty=tmp_path).split())


def test_runs_without_geometry_or_episodes_are_refused(
    runs: Path, ladder: Ladder, tmp_path: Path
) -> None:
    ladder.save(tmp_path / "ladder.json")
    for record in Store(runs).records():
        Store(tmp_path).finish(replace(record, geometry={}, few_shot={}))
    assert "geometry" in refused(1, "analyze", tmp_path)
    for command in ("table", "plot"):
        assert "few-shot" in refused(1, command, tmp_path, "--view", "few-shot")


def test_each_table_names_the_kind_of_its_intervals_and_what_they_leave_out(runs: Path) -> None:
    assert "bootstrap" not in done("table", runs, "--view", "comparisons").output
    assert "bootstrap" in done("table", runs, "--view", "deviation").output
    for view in ("curves", "scores", "deviation", "comparisons"):
        assert TRAINING_ONLY in done("table", runs, "--view", view).output
    for view in ("ranks", "few-shot"):
        assert TRAINING_ONLY not in done("table", runs, "--view", view).output


def test_rungs_are_compared_by_rank_only_where_five_methods_can_tell(
    runs: Path, ladder: Ladder, tmp_path: Path
) -> None:
    assert "0 and 1  4" not in done("table", runs, "--view", "ranks").output
    ladder.save(tmp_path / "ladder.json")
    for record in Store(runs).records():
        Store(tmp_path).finish(record)
        if record.label == "margin":
            fifth = record.spec.with_settings(method="triplet")
            Store(tmp_path).finish(replace(record, spec=fifth))
    assert "0 and 1  5" in done("table", tmp_path, "--view", "ranks").output
