"""Mutants against tests: pytest collects once, and each mutant is tried in a fork of that."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

# A test that takes so many seconds of CPU, and so many times as long as without a mutant, is
# endless; a mutant may take so many seconds on the clock, and so much more memory than its parent.
PATIENCE, TIMES, STUCK, MEMORY = 8, 5, 900, 4 << 30


class Trials:
    """A plugin of pytest that tries mutants in place of running the tests.

    `plan` gives (mutant, its tests in order with their usual seconds), `verdict` hears (mutant,
    what became of it, CPU seconds): "killed", "survived", "endless", "no tests", or "stuck" for
    one that ran out of time on the clock. `workers` mutants are tried at a time.
    """

    def __init__(
        self,
        plan: Iterable[tuple[str, dict[str, float]]],
        verdict: Callable[[str, str, float], None],
        workers: int,
    ) -> None:
        self.plan = plan
        self.verdict = verdict
        self.workers = workers
        self.running: dict[int, tuple[str, str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        # Collecting garbage would copy in every fork what it shares with this process.
        gc.freeze()
        for name, tests in self.plan:
            if not tests:
                self.verdict(name, "no tests", 0.0)
                continue
            if len(self.running) == self.workers:
                self._end_one()
            place = tempfile.mkdtemp(prefix="mutant-")
            child = os.fork()
            if child == 0:
                _limit(place)
                _try(name, {items[test]: usual for test, usual in tests.items() if test in items})
            self.running[child] = name, place
        while self.running:
            self._end_one()
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # Only a fork runs tests, and its first failure is all that is asked of it.
        if report.failed:
            os._exit(1)

    def _end_one(self) -> None:
        child, status, used = os.wait4(-1, 0)
        name, place = self.running.pop(child)
        ended = {0: "survived", -signal.SIGXCPU: "endless", -signal.SIGALRM: "stuck"}
        verdict = ended.get(os.waitstatus_to_exitcode(status), "killed")
        self.verdict(name, verdict, used.ru_utime + used.ru_stime)
        shutil.rmtree(place, ignore_errors=True)


def _limit(place: str) -> None:
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(silence, stream)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(STUCK)
    # What pytest and the tests write goes where the parent clears it away.
    os.environ["PYTEST_DEBUG_TEMPROOT"] = os.environ["TMPDIR"] = tempfile.tempdir = place


def _try(name: str, tests: dict[pytest.Item, float]) -> None:
    from mutmut.mutation.trampoline import set_mutant_under_test

    try:
        set_mutant_under_test(name)
        for item, following in zip(tests, [*list(tests)[1:], None], strict=True):
            limit = round(time.process_time() + PATIENCE + TIMES * tests[item])
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        os._exit(0)
    finally:
        os._exit(1)


def try_all(tests: list[str], trials: Trials) -> None:
    """Collect `tests` in the working directory and run the trials; SystemExit if that fails."""
    sys.path.insert(0, str(Path.cwd()))
    quiet = ["-q", "-s", "--rootdir=.", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no"]
    code = pytest.main([*quiet, *tests], plugins=[trials])
    # Nothing ran in this process, which pytest calls an error of its own.
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"pytest ended with {code!r}.")
