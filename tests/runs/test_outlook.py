"""How far a grid has come, what it costs, and what `oodml status` says of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import make_spec

from oodml.cli import main
from oodml.runs.outlook import cost_of, in_words, outlook, throughput
from oodml.runs.record import RunRecord
from oodml.runs.store import Store

SPECS = [
    make_spec(method, seed=seed) for method in ("margin", "arcface", "frozen") for seed in range(4)
]
RETRIES = 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of 12 runs: 3 margin and 1 arcface done, 1 failed once, 1 given up, 1 held, 5 missing."""
    made = Store(tmp_path)
    made.note_grid(SPECS)
    for at, seconds in ((0, 2.0), (1, 4.0), (2, 6.0), (4, 10.0)):
        made.finish(RunRecord(SPECS[at], {}, {"recall_at_1": 0.5}, {}, {}, seconds))
        os.utime(made.run_directory(SPECS[at].id) / "run.json", (1000 + at, 1000 + at))
    made.fail(SPECS[5].id, "Traceback\nValueError: odd")
    for _ in range(RETRIES + 1):
        made.fail(SPECS[6].id, "Traceback\nValueError: very odd")
    return made


def test_runs_are_counted_by_what_is_known_of_them(store: Store) -> None:
    held = store.claim(SPECS[7].id)
    assert held is not None
    now = outlook([spec.id for spec in SPECS], store, RETRIES)
    assert (now.total, now.done, now.to_go) == (12, 4, 7)
    assert now.failed == (SPECS[5].id,) and now.given_up == (SPECS[6].id,)
    assert now.held == (SPECS[7].id,)
    assert set(now.missing) == {SPECS[3].id, *(spec.id for spec in SPECS[8:])}
    assert outlook([SPECS[6].id], store, RETRIES + 1).given_up == ()


def test_cost_is_the_mean_time_of_each_method_and_of_all_for_the_unknown(store: Store) -> None:
    labels = {spec.id: spec.label for spec in SPECS}
    cost = cost_of([spec.id for spec in SPECS[3:4] + SPECS[5:7] + SPECS[8:]], labels, store)
    assert cost is not None
    # margin 4 s, arcface 10 s, frozen counts as their mean, 7 s.
    assert cost.seconds == pytest.approx(4 + 2 * 10 + 4 * 7)
    assert (cost.known, cost.unknown) == (4, ("frozen",))
    assert cost_of([SPECS[0].id], labels, Store(store.directory / "empty")) is None


def test_runs_of_two_models_are_told_apart_by_name_and_cost(tmp_path: Path) -> None:
    store = Store(tmp_path)
    small, large = (
        [make_spec("margin", seed=seed, backbone=name) for seed in range(3)]
        for name in ("tiny", "resnet50")
    )
    store.note_grid(small)
    assert set(store.asked_for().values()) == {"margin"}
    names = store.asked_for([*small, *large])
    assert [names[own[0].id] for own in (small, large)] == ["margin @ tiny", "margin @ resnet50"]
    store.note_grid(large)
    assert store.asked_for() == names
    for spec, seconds in ((small[0], 2.0), (large[0], 90.0)):
        store.finish(RunRecord(spec, {}, {"recall_at_1": 0.5}, {}, {}, seconds))
    cost = cost_of([spec.id for spec in (*small[1:], large[1])], names, store)
    assert cost is not None and (cost.seconds, cost.unknown) == (pytest.approx(2 * 2 + 90), ())
    store.fail(large[2].id, "Traceback\nValueError: odd")
    shown = CliRunner().invoke(main, ["status", str(tmp_path)]).output
    assert f"failed {large[2].id} margin @ resnet50: ValueError: odd" in shown


def test_lists_of_runs_without_networks_are_read(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), make_spec("margin", backbone="tiny")
    store.note_grid([spec])
    (path,) = (tmp_path / "grids").glob("*.json")
    old = json.loads(path.read_text())
    del old["networks"]
    path.write_text(json.dumps(old))
    assert store.asked_for() == {spec.id: "margin"}
    other = make_spec("margin", backbone="resnet50")
    assert store.asked_for([other]) == {spec.id: "margin", other.id: "margin"}


def test_throughput_is_that_of_the_last_minutes() -> None:
    assert throughput([0.0, 5000.0, 5010.0, 5020.0]) == pytest.approx(0.1)
    assert throughput([1.0]) is None and throughput([]) is None and throughput([3.0, 3.0]) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (5e5, "5.8 days")],
)
def test_durations_are_said_as_one_would(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_status_says_it_all_and_writes_nothing(store: Store) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.directory.rglob("*")}
    shown = CliRunner().invoke(main, ["status", str(store.directory)])
    assert "12 runs: 4 done, 0 running, 1 failed, 1 given up, 6 missing" in shown.output
    assert f"failed {SPECS[6].id} arcface: ValueError: very odd" in shown.output
    # 4 runs ended within 4 seconds: 45 a minute, 7 of them left.
    assert "45 runs a minute of late; about 9 s left" in shown.output
    figures = json.loads(
        CliRunner().invoke(main, ["status", str(store.directory), "--format", "json"]).output
    )
    assert figures["runs_per_minute"] == 45.0 and figures["to_go"] == 7
    assert {path: path.stat().st_mtime_ns for path in store.directory.rglob("*")} == before


def test_watching_ends_when_nothing_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.finish(RunRecord(SPECS[0], {}, {}, {}, {}, 1.0))
    watched = CliRunner().invoke(main, ["status", str(tmp_path), "--watch", "--every", "0.1"])
    assert watched.exit_code == 0 and "1 runs: 1 done" in watched.output
