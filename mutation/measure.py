"""Mutation testing of distances, metrics and splits: `python mutation/measure.py FOLDER [SHARE]`.

FOLDER gets a copy of the committed tree, in which mutmut makes the mutants and notes which tests
reach which function. SHARE (default 1) of each module's mutants, drawn by seed, is then tried in
random order: first the tests nearest to the module, then, if it survives them, all others that
reach it. One line a mutant goes to FOLDER/verdicts.jsonl; started again, it goes on from there.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from differences import is_wording, mutants_of

ROOT = Path(__file__).parents[1]
# Functions with a decorator are not mutated by mutmut, and this one changes speed alone.
DECORATOR = "@side_by_side()\n"
# Seconds of tests that a mutant meets first, and the CPU seconds after which it counts as endless.
NEAREST, ENDLESS = 2.5, 120.0
# Tests that start processes or whole networks: slow, and about other things.
ELSEWHERE = ("test_backbone", "test_extraction", "test_timm_networks", "test_weights", "test_cut")
# Modules whose tests do not bear their name.
TESTED_IN = {
    "arrays": "frechet_errors", "bias": "shift", "carry": "ahead", "centred": "frechet",
    "equal": "ways", "gain": "search", "gallery": "controls", "metrics": "retrieval",
    "null": "shift", "pool": "search", "positives": "ranks", "removal": "build", "rungs": "build",
    "sides": "search", "start": "ways", "swap": "build", "terms": "frechet", "tiles": "ranks",
    "trace": "frechet", "trajectory": "search", "transport": "candidates", "walk": "search",
}  # fmt: skip


def prepare(folder: Path) -> None:
    """A copy of the committed tree in `folder`, with its mutants and what reaches them."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    (folder / "setup.cfg").write_text((ROOT / "mutation" / "setup.cfg").read_text())
    for path in (folder / "oodml").rglob("*.py"):
        path.write_text(path.read_text().replace(DECORATOR, ""))
    command = Path(sys.executable).with_name("mutmut")
    # Of one mutant only; making all of them and seeing which tests reach them comes first.
    one = "oodml.fid.terms.x_split_terms__mutmut_1"
    subprocess.run([command, "run", "--max-children", "1", one], cwd=folder, check=True)


def mutants(folder: Path, share: float) -> list[str]:
    """`share` of the mutants of each module, by seed, in random order; none of mere wording."""
    modules = defaultdict(list)
    for name, (module, changed) in mutants_of(folder).items():
        if not is_wording(changed):
            modules[module].append(name)
    chosen = []
    for module, names in modules.items():
        draw = random.Random(module)
        draw.shuffle(names)
        chosen += [((i + draw.random()) / len(names), name) for i, name in enumerate(names)]
    return [name for place, name in sorted(chosen) if place <= share]


def tests_of(name: str, statistics: dict[str, dict[str, object]]) -> tuple[list[str], list[str]]:
    """The tests nearest to a mutant, and the others that reach it, quick ones first."""
    seconds: dict[str, float] = statistics["duration_by_test"]  # type: ignore[assignment]
    reached = statistics["tests_by_mangled_function_name"].get(name.rsplit("__mutmut_", 1)[0], [])
    tests = [t for t in reached if not any(word in t for word in ELSEWHERE)]  # type: ignore
    module = name.split(".")[2]
    own = "test_" + TESTED_IN.get(module, module)
    tests.sort(key=lambda test: (own not in test, seconds[test]))
    first: list[str] = []
    for test in tests:
        if len(first) < 3 or sum(map(seconds.__getitem__, [*first, test])) <= NEAREST:
            first.append(test)
    return first, sorted(set(tests) - set(first), key=seconds.__getitem__)


def outcome(name: str, tests: list[str]) -> str:
    """What becomes of a mutant: "killed", "endless" or "survived"."""
    child = os.fork()
    if child == 0:
        _test(name, tests)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        ticks = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        if sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") > ENDLESS:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return "endless"
        time.sleep(0.05)


def _test(name: str, tests: list[str]) -> None:
    import pytest
    from mutmut.mutation.trampoline import set_mutant_under_test

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    set_mutant_under_test(name)
    os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=no", *tests])))


def collect() -> None:
    """Import what the tests import, so that no mutant pays for it."""
    import pytest

    sys.path.insert(0, str(Path.cwd()))
    quiet = ["--collect-only", "-qqq", "-p", "no:cacheprovider"]
    pytest.main([*quiet, "tests/fid", "tests/splits", "tests/eval"])


def main(folder: Path, share: float) -> None:
    if not (folder / "mutants" / "mutmut-stats.json").exists():
        prepare(folder)
    os.chdir(folder)
    verdicts = Path("verdicts.jsonl").resolve()
    lines = verdicts.read_text().splitlines() if verdicts.exists() else []
    known = {json.loads(line)[0] for line in lines}
    todo = [name for name in mutants(folder, share) if name not in known]
    statistics = json.loads(Path("mutants/mutmut-stats.json").read_text())
    os.environ["MUTANT_UNDER_TEST"] = ""
    os.chdir("mutants")
    collect()
    with verdicts.open("a") as file:
        for name in todo:
            verdict = "no tests"
            for tests in filter(None, tests_of(name, statistics)):
                verdict = outcome(name, tests)
                if verdict != "survived":
                    break
            file.write(json.dumps([name, verdict]) + "\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), float((*sys.argv[2:], 1)[0]))
