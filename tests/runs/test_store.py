from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import make_spec

import oodml.runs.claim
from oodml.errors import DataError
from oodml.runs.claim import Claim, ClaimWatch
from oodml.runs.outlook import outlook
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store

SPEC = make_spec(hyperparameters={"beta": 0.6})


def record(spec: RunSpec = SPEC) -> RunRecord:
    return RunRecord(spec, {"fid": 1.0}, {"recall_at_1": 0.5}, {"loss": 0.1}, {"torch": "x"}, 1.5)


def test_the_id_leaves_defaults_out_and_sees_everything_else() -> None:
    assert SPEC.id == SPEC.with_settings(seed=0, steps=300).id
    changed = [
        SPEC.with_settings(seed=1),
        SPEC.with_settings(hyperparameters={"beta": 0.7}),
        SPEC.with_settings(hyperparameters={}),
        SPEC.with_settings(split="t"),
        SPEC.with_settings(train="all"),
    ]
    assert len({spec.id for spec in [SPEC, *changed]}) == 6
    assert "training" not in SPEC.to_json() and len(SPEC.id) == 12


def test_a_spec_refuses_fields_it_does_not_know() -> None:
    assert RunSpec.from_json(SPEC.to_json()) == SPEC
    with pytest.raises(DataError, match="temperature"):
        RunSpec.from_json({**SPEC.to_json(), "temperature": 1})


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fail(SPEC.id, "boom")
    store.finish(record())
    assert store.record(SPEC.id) == record() and store.records() == [record()]
    assert store.error(SPEC.id) is None


def test_a_record_that_was_changed_or_torn_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    store.finish(record())
    other = SPEC.with_settings(seed=5)
    store.finish(record(other))
    path = store.run_directory(other.id) / "run.json"
    changed = json.loads(path.read_text())
    changed["spec"]["seed"] = 6
    path.write_text(json.dumps(changed))
    with pytest.raises(DataError, match=other.id):
        store.record(other.id)
    assert store.records() == [record()]
    assert other.id in caplog.text
    path.write_text("{")
    assert store.records() == [record()]


@pytest.mark.parametrize("left", [0, 1, 0.5, -1, -2])
def test_a_run_whose_record_was_cut_off_is_not_done(tmp_path: Path, left: float) -> None:
    store = Store(tmp_path)
    store.note_grid([SPEC])
    store.finish(record())
    assert store.is_done(SPEC.id) and list(store.done_of([SPEC.id, "0" * 12])) == [SPEC.id]
    path = store.run_directory(SPEC.id) / "run.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole)) if 0 < left < 1 else int(left)])
    assert not store.is_done(SPEC.id) and store.done_of([SPEC.id]) == {}
    assert outlook([SPEC.id], store, retries=2).missing == (SPEC.id,)
    assert store.claim(SPEC.id) is not None
    store.finish(record())
    assert path.read_bytes() == whole and store.is_done(SPEC.id)


def test_a_run_is_claimed_once_and_again_after_release(tmp_path: Path) -> None:
    store = Store(tmp_path)
    claim = store.claim("abc")
    assert claim is not None
    with claim:
        assert Store(tmp_path).claim("abc") is None
    again = store.claim("abc")
    assert again is not None


def test_a_finished_run_is_not_claimed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.finish(record())
    assert store.claim(SPEC.id) is None


def test_the_claim_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from oodml.runs.store import Store\n"
        "Store(sys.argv[1]).claim('abc').__enter__(); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    assert Store(tmp_path).claim("abc") is None
    child.kill()
    child.wait()
    assert Store(tmp_path).claim("abc") is not None


def test_processes_that_share_a_store_do_every_run_exactly_once(tmp_path: Path) -> None:
    code = (
        "import sys; from oodml.runs.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for n in range(60):\n"
        "    claim = store.claim(f'run{n}')\n"
        "    if claim:\n"
        "        with claim:\n"
        "            path = store.run_directory(f'run{n}') / 'run.json'\n"
        "            path.write_text('{\\n}\\n'); print(n)\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    done = [int(n) for child in children for n in child.communicate()[0].split()]
    assert sorted(done) == list(range(60))


def test_a_run_that_ends_while_its_claim_is_looked_for_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)

    def ends(path: Path) -> bool:
        path.parent.mkdir(parents=True)
        (path.parent / "run.json").write_text("{\n}\n")
        return False

    monkeypatch.setattr(store._watch, "is_held", ends)
    assert store.claim("abc") is None


def test_a_claim_of_another_host_is_stale_by_our_clock_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "claim"
    path.write_text(json.dumps({"host": "elsewhere", "boot": "x", "pid": 1, "started": "1"}))
    os.utime(path, (0, 0))  # its clock says 1970; that must not matter
    now = 1000.0
    monkeypatch.setattr(oodml.runs.claim.time, "monotonic", lambda: now)
    watch = ClaimWatch()
    assert watch.is_held(path)
    now += oodml.runs.claim.STALE_SECONDS - 1
    assert watch.is_held(path)
    os.utime(path, (5, 5))  # a heartbeat
    assert watch.is_held(path)
    now += oodml.runs.claim.STALE_SECONDS + 1
    assert not watch.is_held(path)


def test_the_heartbeat_touches_the_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oodml.runs.claim, "HEARTBEAT_SECONDS", 0.02)
    path = tmp_path / "claim"
    with Claim.take(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0
    assert not path.exists()


def test_a_finished_run_keeps_no_checkpoint_of_any_of_its_models(tmp_path: Path) -> None:
    store = Store(tmp_path)
    spec = make_spec()
    for place in ("last.pt", "best.pt", "fold1/last.pt", "fold1/best.pt", "fold1/epochs.jsonl"):
        path = store.run_directory(spec.id) / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    store.finish(RunRecord(spec, {}, {"recall_at_1": 0.5}, {}, {}, 1.0))
    left = {path.name for path in store.run_directory(spec.id).rglob("*") if path.is_file()}
    assert left == {"run.json", "epochs.jsonl"}


def test_a_run_whose_process_was_killed_after_its_record_has_not_failed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fail(SPEC.id, "killed in the middle", killed=True)
    assert "killed in the middle" in (store.error(SPEC.id) or "")
    store.finish(record())
    store.fail(SPEC.id, "ended with signal 9", killed=True)
    assert store.error(SPEC.id) is None and store.is_done(SPEC.id)


def test_a_record_without_the_newer_fields_is_read(tmp_path: Path) -> None:
    spec = make_spec()
    record = RunRecord(spec, {}, {"recall_at_1": 0.5}, {}, {}, 1.0).to_json()
    del record["geometry"], record["few_shot"]
    assert RunRecord.from_json(record).geometry == {}
    del record["metrics"]
    with pytest.raises(DataError, match="lacks metrics"):
        RunRecord.from_json(record)


def test_tricks_stand_in_the_label_and_in_the_id() -> None:
    plain = make_spec()
    tricked = plain.with_settings(flip=True, mix=0.25, rerank=True, hyperparameters={"beta": 0.6})
    assert tricked.label == "margin(beta=0.6) +flip +mix 0.25 +re-ranking"
    assert (
        len({plain.id, plain.with_settings(flip=True).id, plain.with_settings(ensemble=4).id}) == 3
    )
    assert plain.with_settings(folds=4).label == "margin +4 folds"
