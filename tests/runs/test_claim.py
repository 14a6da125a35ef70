from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from oodml.runs import claim as claims
from oodml.runs.claim import STALE_SECONDS, Claim, ClaimWatch
from oodml.runs.store import Store


def test_a_run_is_claimed_once_and_again_after_release(tmp_path: Path) -> None:
    store = Store(tmp_path)
    claim = store.claim("abc")
    assert claim is not None
    with claim:
        assert Store(tmp_path).claim("abc") is None
    assert not claim.path.exists() and store.claim("abc") is not None


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


def test_a_claim_of_another_host_is_stale_by_our_clock_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "claim"
    path.write_text(json.dumps({"host": "elsewhere", "boot": "x", "pid": 1, "started": "1"}))
    os.utime(path, (0, 0))  # its clock says 1970; that must not matter
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(claims, "time", clock)
    watch = ClaimWatch()
    assert watch.is_held(path)
    clock.now += STALE_SECONDS - 1
    assert watch.is_held(path)
    os.utime(path, (5, 5))  # a heartbeat
    assert watch.is_held(path)
    clock.now += STALE_SECONDS + 1
    assert not watch.is_held(path)


def test_the_heartbeat_touches_the_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.02)
    path = tmp_path / "claim"
    with Claim.take(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0
