"""`oodml table`, `plot` and `analyze` on a directory of made-up runs."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from oodml.cli import main
from oodml.commands.tables import Table
from oodml.eval.statistics.curves import summarize
from oodml.eval.statistics.scores import score_methods
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder

METHODS = ("frozen", "margin", "arcface", "proxy_anchor")
PROPERTIES = ("alignment", "uniformity")


def oodml(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="oodml")


def records_of(ladder: Ladder) -> list[RunRecord]:
    random = np.random.default_rng(0)
    return [
        _record(ladder, rung, method, seed, 0.8 - 0.1 * rung - 0.02 * number, random)
        for number, method in enumerate(METHODS)
        for rung in range(len(ladder.rungs))
        for seed in range(1 if method == "frozen" else 3)
    ]


def _record(
    ladder: Ladder, rung: int, method: str, seed: int, level: float, random: np.random.Generator
) -> RunRecord:
    source, split = ladder.features, ladder.rungs[rung]
    value = level + 0.004 * random.normal()
    train = "none" if method == "frozen" else "head"
    spec = RunSpec.on(source, split.id, method, seed=seed, train=train)
    shapes = {name: value + 0.01 * random.normal() for name in PROPERTIES}
    episodes = [
        {"zero_shot": {"recall_at_1": value}, "few_shot": {"recall_at_1": value + gain}}
        for gain in random.normal(0.03, 0.01, 4).tolist()
    ]
    return RunRecord(
        spec, split.shift.to_json() if split.shift else {}, {"recall_at_1": value}, {}, {}, 1.0,
        geometry={"train": shapes, "test": shapes},
        few_shot={"2": {"episodes": episodes, "left_out": 4 * (rung == 1)}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs")
    ladder.save(directory / "ladder.json")
    for record in records_of(ladder):
        Store(directory).finish(record)
    return directory


def one_line(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    for word in words:
        assert word in last, last


def long(*arguments: str | Path) -> list[dict[str, str]]:
    result = oodml("table", *arguments, "--format", "csv")
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.output)))


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
    result = oodml("table", runs, "--view", view, "--format", kind)
    assert result.exit_code == 0, result.output
    if kind == "json":
        assert all(isinstance(row, dict) for row in json.loads(result.output))
    elif kind == "csv":
        assert len({len(row) for row in csv.reader(io.StringIO(result.output))}) == 1
    else:
        assert words in result.output
        assert ("tabular" in result.output) == (kind == "latex")
    if kind == "latex":
        outside = re.sub(r"(?s)\\begin\{tabular\}.*?\\end\{tabular\}", "", result.output)
        assert all(line.startswith("% ") for line in outside.splitlines() if line)


def test_classes_that_few_shot_leaves_out_are_named(runs: Path) -> None:
    result = oodml("table", runs, "--view", "few-shot")
    assert "test classes left out, being too small: 4 for 2 shots on rung 1." in result.output
    assert {(row["rung"], row["left_out"]) for row in long(runs, "--view", "few-shot")} == {
        ("0", "0"), ("1", "4"), ("2", "0"),
    }  # fmt: skip


def test_numbers_are_those_of_the_library(runs: Path, ladder: Ladder) -> None:
    records = Store(runs).records()
    scores = {s.method: s for s in score_methods(summarize(records, ladder), ladder)}
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
        result = oodml("table", tmp_path, "--view", view)
        assert "missing for margin: rung 1 seed 0" in result.output
    assert (
        "not in the mean, for lack of rungs: margin"
        in oodml("table", tmp_path, "--view", "deviation").output
    )


def test_runs_that_do_not_belong_together_are_refused(
    runs: Path, ladder: Ladder, tmp_path: Path
) -> None:
    ladder.save(tmp_path / "ladder.json")
    store = Store(tmp_path)
    one, other, *_ = Store(runs).records()
    store.finish(one)
    store.finish(replace(other, spec=other.spec.with_settings(method="other", backbone="resnet50")))
    one_line(oodml("table", tmp_path), 1, "differ in backbone", "one table")
    one_line(oodml("plot", tmp_path, "--view", "scores"), 1, "differ in backbone")
    shift = {**one.shift, "level": "class"}
    store.renew(replace(one, shift=shift))
    one_line(oodml("table", tmp_path), 1, "class level")


def test_published_curves_stand_alone_and_beside() -> None:
    result = oodml("table", "--published", "cub200")
    assert "0.677" in result.output and "arXiv:2107.09562" in result.output
    assert "proxy_anchor (published)" in result.output
    (row,) = [
        row
        for row in long("--published", "cars196", "--view", "scores")
        if row["method"] == "s2sd (published)"
    ]
    assert float(row["ags"]) == pytest.approx(0.8016, abs=5e-5)


def test_published_curves_stand_beside_runs(runs: Path) -> None:
    methods = [row["method"] for row in long(runs, "--view", "scores", "--published", "sop")]
    assert methods[:4] == list(METHODS) and len(methods) == 12
    text = oodml("table", runs, "--published", "sop").output
    assert "published curves of sop" in text and "margin  " in text


@pytest.mark.parametrize("view", ["curves", "deviation", "scores", "few-shot", "geometry"])
def test_every_chart_is_drawn(runs: Path, tmp_path: Path, view: str) -> None:
    path = tmp_path / "chart.svg"
    result = oodml("plot", runs, "--view", view, "-o", path)
    assert result.exit_code == 0, result.output
    assert f"written to {path}" in result.output
    assert b"<svg" in path.read_bytes()


def test_charts_have_names_of_their_own(runs: Path) -> None:
    result = oodml("plot", runs, "--view", "scores")
    assert result.exit_code == 0
    assert (runs / "recall_at_1-scores.png").exists() and (runs / "recall_at_1-scores.svg").exists()


def test_published_curves_share_an_axis_only_when_scaled(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    assert oodml("plot", runs, "--published", "cub200", "-o", path).exit_code == 0
    one_line(
        oodml("plot", runs, "--published", "cub200", "--x", "fid", "-o", path), 2, "--x scaled"
    )
    assert oodml("plot", "--published", "cub200", "-o", path).exit_code == 0
    one_line(oodml("plot", "--published", "cub200", "--x", "excess", "-o", path), 2, "no excess")


def test_what_cannot_be_shown_gets_one_line(runs: Path, tmp_path: Path) -> None:
    one_line(oodml("table"), 2, "DIRECTORY", "--published")
    one_line(oodml("plot"), 2, "DIRECTORY", "--published")
    one_line(oodml("table", "--published", "cub"), 2, "Did you mean 'cub200'")
    one_line(oodml("table", "--published", "sop", "--metric", "nmi"), 2, "not of nmi")
    one_line(oodml("table", "--published", "sop", "--view", "comparisons"), 2, "comparisons")
    one_line(oodml("plot", "--published", "sop", "--view", "geometry"), 2, "geometry")
    one_line(oodml("table", runs, "--view", "ranks", "--metric", "recall_at1"), 2, "recall_at_1")
    one_line(oodml("plot", runs, "--x", "excess"), 1, "null")
    one_line(oodml("plot", runs, "-o", tmp_path / "a.gif"), 2, ".png")
    one_line(oodml("analyze", runs, "--metric", "recal"), 2, "Did you mean 'recall_at_1'")
    assert not list(tmp_path.iterdir())


def test_older_runs_have_no_geometry_and_no_episodes(
    runs: Path, ladder: Ladder, tmp_path: Path
) -> None:
    ladder.save(tmp_path / "ladder.json")
    for record in Store(runs).records():
        Store(tmp_path).finish(replace(record, geometry={}, few_shot={}))
    one_line(oodml("analyze", tmp_path), 1, "geometry")
    one_line(oodml("table", tmp_path, "--view", "few-shot"), 1, "--few-shot")
    one_line(oodml("plot", tmp_path, "--view", "few-shot"), 1, "few_shot")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--rung", "1"), "--rung"),
        (("--coefficient", "pearson"), "--coefficient"),
        (("--view", "geometry", "--x", "scaled"), "--x"),
        (("--pair-weights", "--x", "scaled"), "--x"),
    ],
)
def test_an_option_that_a_chart_would_ignore_is_refused(
    runs: Path, tmp_path: Path, given: tuple[str, ...], named: str
) -> None:
    one_line(oodml("plot", runs, *given, "-o", tmp_path / "a.png"), 2, named)
    assert not list(tmp_path.iterdir())


def test_runs_of_another_ladder_are_no_empty_table(ladder: Ladder, tmp_path: Path) -> None:
    replace(ladder, rungs=ladder.rungs[1:], rung_steps=ladder.rung_steps[1:]).save(
        tmp_path / "ladder.json"
    )
    store = Store(tmp_path)
    for record in records_of(ladder):
        if record.spec.data.split == ladder.rungs[0].id:
            store.finish(record)
    for metric in ("recall_at_1", "nonsense"):
        one_line(oodml("table", tmp_path, "--metric", metric), 1, "rungs of this ladder")


def test_analysis_holds_both_coefficients(runs: Path) -> None:
    text = oodml("analyze", runs, "--coefficient", "pearson").output
    assert "Pearson correlation" in text and "alignment" in text
    rows = json.loads(oodml("analyze", runs, "--format", "json").output)
    scopes = {row["scope"] for row in rows}
    assert scopes == {"rung 0", "rung 1", "rung 2", "pooled", "within"}
    assert all(-1 <= row["pearson"] <= 1 and -1 <= row["spearman"] <= 1 for row in rows)


def test_latex_is_escaped() -> None:
    table = Table(["a_b"], [["50% & $x$"], ["1 ±2"]]).render("latex")
    assert r"a\_b" in table and r"50\% \& \$x\$" in table and r"1 $\pm$2" in table
