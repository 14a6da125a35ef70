"""The progress bar on a terminal and in a log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest

from oodml import progress
from oodml.progress import SECONDS, progress_bar
from oodml.seeding import generator


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


def worked(durations: Sequence[float]) -> Iterator[float]:
    """The seconds that an injected clock shows after each step of a bar."""
    now = 0.0
    with progress_bar(total=len(durations), desc="work", unit="image") as bar:
        bar._time = lambda: now
        bar.start_t = bar.last_print_t = now
        for duration in durations:
            now += duration
            bar.update()
            yield now


def test_lines_of_a_log_stand_ten_seconds_apart(capsys: pytest.CaptureFixture[str]) -> None:
    # Ten images a second, then one in two seconds.
    durations = [0.1] * 300 + [2.0] * 15
    seconds = [0.0]
    for now in worked(durations):
        if capsys.readouterr().err:
            seconds.append(now)
    gaps = [after - before for before, after in pairwise(seconds)]
    assert len(gaps) == 5 and min(gaps) >= SECONDS and max(gaps) < SECONDS + 2


def test_the_rate_is_steady_and_the_time_left_is_honest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    durations = generator(0, "durations").uniform(0.1, 0.3, 300)
    durations[0] += 2.0  # a network is converted before its first images
    end = durations.sum()
    for now in worked(durations):
        line = capsys.readouterr().err
        if line and 15 < now < end - 5:
            rate = float(re.search(r"([\d.]+)image/s", line).group(1))
            minutes, left = map(int, re.search(r"<(\d+):(\d+)", line).groups())
            assert rate == pytest.approx(5, rel=0.2)
            assert 60 * minutes + left == pytest.approx(end - now, rel=0.25, abs=2)


def test_a_terminal_gets_one_line_redrawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    count(5)
    assert "\r" in capsys.readouterr().err
