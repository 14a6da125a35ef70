"""The progress bar on a terminal and in a log."""

from __future__ import annotations

import pytest

from oodml import progress
from oodml.progress import progress_bar


def count(number: int) -> None:
    with progress_bar(total=number, desc="work") as bar:
        for _ in range(number):
            bar.update()
            bar.set_postfix_str("now", refresh=False)


def test_a_log_gets_nothing_of_short_work(capsys: pytest.CaptureFixture[str]) -> None:
    count(500)
    assert capsys.readouterr().err == ""


def test_a_log_gets_whole_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 1e-9)
    count(5)
    shown = capsys.readouterr().err
    assert shown.isascii() and "\r" not in shown and shown.endswith("\n")
    lines = shown.splitlines()
    assert all(line.startswith("work: ") for line in lines) and "5/5" in lines[-1]


def test_lines_of_a_log_stand_ten_seconds_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    with progress_bar(range(100), desc="work", miniters=1) as bar:
        bar._time = lambda: now[0]
        bar.start_t = bar.last_print_t = 0.0
        for _ in bar:
            now[0] += 1.0
    assert len(capsys.readouterr().err.splitlines()) in (10, 11)


def test_a_terminal_gets_one_line_redrawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    count(5)
    assert "\r" in capsys.readouterr().err
