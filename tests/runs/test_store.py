from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_spec

from oodml.errors import DataError
from oodml.runs.outlook import outlook
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store, Tries

SPEC = make_spec(hyperparameters={"beta": 0.6})


def record(spec: RunSpec = SPEC) -> RunRecord:
    return RunRecord(spec, {"fid": 1.0}, {"recall_at_1": 0.5}, {"loss": 0.1}, {"torch": "x"}, 1.5)


def test_a_run_comes_back_as_it_was_written_and_ends_once(tmp_path: Path) -> None:
    store, first = Store(tmp_path), record()
    store.finish(first)
    store.finish(replace(first, seconds=2.0))
    assert store.record(SPEC.id) == first and store.records() == [first]
    assert store.claim(SPEC.id) is None
    store.renew(replace(first, seconds=3.0))
    assert store.records()[0].seconds == 3.0


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


def test_a_finished_run_keeps_no_checkpoint_of_any_of_its_models(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for place in ("last.pt", "best.pt", "fold1/last.pt", "fold1/best.pt", "fold1/epochs.jsonl"):
        path = store.run_directory(SPEC.id) / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    store.finish(record())
    left = {path.name for path in store.run_directory(SPEC.id).rglob("*") if path.is_file()}
    assert left == {"run.json", "epochs.jsonl"}


def test_failures_are_counted_and_a_success_forgets_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fail(SPEC.id, "first\n== try 9: failed ==not a header")
    store.fail(SPEC.id, "second", killed=True)
    assert store.tries(SPEC.id) == Tries(2, killed=True)
    assert "first" in (store.error(SPEC.id) or "") and "second" in (store.error(SPEC.id) or "")
    store.finish(record())
    assert store.tries(SPEC.id) == Tries() and store.error(SPEC.id) is None
    # Its process was killed just after the record.
    store.fail(SPEC.id, "ended with signal 9", killed=True)
    assert store.error(SPEC.id) is None and store.is_done(SPEC.id)
