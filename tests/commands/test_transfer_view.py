"""`oodml table --view transfer` on a directory of made-up reference runs."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from commands.conftest import done, refused

from oodml.runs.store import Store
from oodml.splits.ladder import Ladder

FIELDS = ("frozen", "shifted", "matched", "shift_cost", "gain", "matched_gain", "retained_gain")


def rows(directory: Path) -> list[dict[str, object]]:
    found = json.loads(done("table", directory, "--view", "transfer", "--format", "json").output)
    assert isinstance(found, list)
    return found


def test_json_has_a_row_a_method_and_rung_with_every_bound(
    reference_runs: Path, ladder: Ladder
) -> None:
    found = rows(reference_runs)
    assert [(row["method"], row["rung"]) for row in found] == [("margin", n) for n in range(3)]
    for row, split in zip(found, ladder.rungs, strict=True):
        assert (ladder.features.backbone, row["fid"], row["excess"]) == (
            row["backbone"],
            split.fid,
            None,
        )
        for name in FIELDS:
            low, value, high = row[f"{name}_low"], row[name], row[f"{name}_high"]
            assert low <= value <= high  # type: ignore[operator]
        assert row["seeds"] == 3 and row["left_out"] == 0
    assert [row["frozen"] for row in found] == pytest.approx([0.5, 0.4, 0.3])
    assert [row["gain"] for row in found] == pytest.approx([0.1, 0.02, -0.1], abs=0.005)
    assert [row["break_even"] for row in found] == ["within"] * 3
    fids = [split.fid for split in ladder.rungs]
    assert fids[1] < float(str(found[0]["break_even_fid"])) < fids[2]


def test_the_sums_hold_in_what_is_printed(reference_runs: Path) -> None:
    found = [
        {key: value for key, value in row.items() if isinstance(value, float)}
        for row in rows(reference_runs)
    ]
    for row in found:
        for name, one, other in (
            ("shift_cost", "matched", "shifted"),
            ("gain", "shifted", "frozen"),
            ("matched_gain", "matched", "frozen"),
            ("gain", "matched_gain", "shift_cost"),
        ):
            assert row[name] == pytest.approx(row[one] - row[other], abs=1e-12)
        ratio = row["gain"] / row["matched_gain"]
        assert row["retained_gain"] == pytest.approx(ratio, abs=1e-12)
        difficulty = found[0]["matched"] - row["matched"]
        assert row["difficulty"] == pytest.approx(difficulty, abs=1e-12)
        fall = found[0]["shifted"] - row["shifted"]
        rise = row["shift_cost"] - found[0]["shift_cost"]
        assert fall == pytest.approx(row["difficulty"] + rise, abs=1e-12)
        assert (row["fall"], row["cost_rise"]) == pytest.approx((fall, rise), abs=1e-12)


def test_the_null_stands_beside_the_cost_of_its_rung(reference_runs: Path) -> None:
    first, *others = rows(reference_runs)
    assert (first["null_draws"], first["null_cost"]) == (2, pytest.approx(0.015))
    assert first["told_apart"] is False
    assert [(row["null_draws"], row["null_cost"], row["told_apart"]) for row in others] == [
        (0, None, None)
    ] * 2
    text = done("table", reference_runs, "--view", "transfer").output
    assert "null of cost" in text


def test_text_is_narrow_and_leads_with_what_was_found(reference_runs: Path) -> None:
    text = done("table", reference_runs, "--view", "transfer").output
    tables, found, notes = text.partition("Training pays up to FID")
    assert found and "beyond, it costs" in notes
    assert "falls by 0.402 with margin: 0.200 because the classes are harder, 0.202" in notes
    # The null of the cost is one column more.
    assert max(map(len, tables.splitlines())) <= 100


def test_without_a_null_text_fits_a_terminal(
    reference_runs: Path, ladder: Ladder, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    ladder.save(tmp_path / "ladder.json")
    for record in Store(reference_runs).records():
        if not record.spec.data.null_draw:
            store.finish(record)
    text = done("table", tmp_path, "--view", "transfer").output
    tables, _, _ = text.partition("Training pays up to FID")
    assert "retained" in tables and max(map(len, tables.splitlines())) <= 80


def test_no_share_is_stated_where_the_matched_gain_may_be_zero(
    reference_runs: Path, ladder: Ladder, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    ladder.save(tmp_path / "ladder.json")
    for record in Store(reference_runs).records():
        if record.spec.data.trained_on == "matched":
            level = 0.5 - 0.1 * ladder.rung_of(record.spec.data.split)
            record = replace(record, metrics={"recall_at_1": level + 0.01 * record.spec.seed})
        store.finish(record)
    for row in rows(tmp_path):
        assert row["matched_gain_low"] < 0 < row["matched_gain_high"]  # type: ignore[operator]
        assert row["retained_gain"] is row["retained_gain_low"] is row["retained_gain_high"] is None
    tables = done("table", tmp_path, "--view", "transfer").output.partition("recall_at_1 on")[0]
    (table,) = re.findall(r"^FID .*retained\n((?:\d.*\n)+)", tables, re.MULTILINE)
    assert all(line.endswith("  -") for line in table.splitlines())


def test_one_seed_has_values_without_intervals(
    reference_runs: Path, ladder: Ladder, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    ladder.save(tmp_path / "ladder.json")
    for record in Store(reference_runs).records():
        if record.spec.seed == 0:
            store.finish(record)
    text = done("table", tmp_path, "--view", "transfer").output
    assert "one seed, so no intervals" in text and "cannot be told from one seed" in text
    for row in rows(tmp_path):
        assert row["gain"] is not None
        assert row["gain_low"] is row["retained_gain"] is row["break_even_fid_low"] is None


@pytest.mark.parametrize("kind", ["markdown", "latex", "csv"])
def test_other_formats(reference_runs: Path, kind: str) -> None:
    output = done("table", reference_runs, "--view", "transfer", "--format", kind).output
    if kind == "csv":
        assert len(list(csv.DictReader(io.StringIO(output)))) == 3
    else:
        assert "break-even FID" in output


def test_other_views_do_not_show_reference_runs(runs: Path, reference_runs: Path) -> None:
    for view in ("curves", "scores", "ranks", "comparisons"):
        plain, both = (
            done("table", each, "--view", view, "--format", "csv").output
            for each in (runs, reference_runs)
        )
        assert plain == both


def test_methods_without_a_reference_are_named(reference_runs: Path, tmp_path: Path) -> None:
    shown = done("table", reference_runs, "--view", "transfer").output
    assert "without reference runs: arcface, proxy_anchor." in shown
    store = Store(shutil.copytree(reference_runs, tmp_path / "copy"))
    for record in store.records():
        if not record.spec.is_reference:
            shutil.rmtree(store.run_directory(record.id))
    assert "without reference" not in done("table", store.directory, "--view", "transfer").output


def test_a_folder_without_reference_runs_is_told_how_to_get_them(runs: Path) -> None:
    assert "--reference" in refused(1, "table", runs, "--view", "transfer")
    refused(2, "table", "--published", "sop", "--view", "transfer")
