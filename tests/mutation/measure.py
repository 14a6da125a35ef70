"""Mutation testing of distances, metrics and splits: `python tests/mutation/measure.py FOLDER`.

FOLDER gets a copy of this tree, in which mutmut makes the mutants and notes which tests reach which
function. They are then tried in an order drawn by `--seed`, the modules in turn by their size:
first on the tests nearest to the module, then, if a mutant survives them, on all others that reach
it. One line a mutant goes to FOLDER/verdicts.jsonl; started again, it goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any, TextIO

from differences import Mutant, mutants_of
from trial import Trials, try_all

ROOT = Path(__file__).parents[2]
# What the tests of these modules read.
COPIED = ("oodml", "tests", "README.md", "pyproject.toml")
# Functions with a decorator are not mutated by mutmut, and this one changes speed alone.
DECORATOR = "@side_by_side()\n"
# Seconds of tests near to its module that a mutant meets first.
NEAREST = 2.5


def prepare(folder: Path) -> None:
    """A copy of this tree in `folder`, with its mutants and what reaches them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        _copy(ROOT / name, folder / name)
    shutil.copy(Path(__file__).with_name("setup.cfg"), folder)
    for path in (folder / "oodml").rglob("*.py"):
        path.write_text(path.read_text().replace(DECORATOR, ""))
    command = Path(sys.executable).with_name("mutmut")
    # Of one mutant only; making all of them and seeing which tests reach them comes first.
    one = "oodml.fid.class_moments.x_split_terms__mutmut_1"
    with (folder / "mutmut.log").open("w") as log:
        arguments = [str(command), "run", "--max-children", "2", one]
        code = subprocess.run(arguments, cwd=folder, stdout=log, stderr=log).returncode
    if code:
        raise SystemExit(f"mutmut ended with {code}; see {folder / 'mutmut.log'}.")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def in_turn(mutants: Sequence[Mutant], seed: str) -> list[Mutant]:
    """The mutants in an order drawn by seed, those of each module evenly spread over it."""
    modules = defaultdict(list)
    for mutant in mutants:
        modules[mutant.module].append(mutant)
    placed = []
    for module, found in modules.items():
        draw = random.Random(f"{seed} {module}")
        draw.shuffle(found)
        placed += [((i + draw.random()) / len(found), mutant) for i, mutant in enumerate(found)]
    return [mutant for _, mutant in sorted(placed, key=lambda pair: pair[0])]


def tests_of(name: str, statistics: dict[str, Any], most: float) -> dict[str, float]:
    """Tests that reach a mutant, with their seconds: the nearest, then others by time.

    At least three, and together `most` seconds at most, so that the slowest are left out.
    """
    seconds: dict[str, float] = statistics["duration_by_test"]
    reached = statistics["tests_by_mangled_function_name"].get(name.rsplit("__mutmut_", 1)[0], [])
    own = "test_" + name.split(".")[-2]
    tests = sorted(reached, key=lambda test: (own not in test, seconds[test]))
    first: list[str] = []
    for test in tests:
        if len(first) < 3 or sum(map(seconds.__getitem__, [*first, test])) <= min(most, NEAREST):
            first.append(test)
    rest = sorted(set(tests) - set(first), key=seconds.__getitem__)
    spent = accumulate(seconds[test] for test in [*first, *rest])
    met = zip([*first, *rest], spent, strict=True)
    return {test: seconds[test] for test, total in met if total <= most or test in first}


def untried(folder: Path, modules: Sequence[str], seed: str) -> list[str]:
    """The mutants of these modules, but of mere wording, that have no verdict, in their order."""
    verdicts = folder / "verdicts.jsonl"
    lines = verdicts.read_text().splitlines() if verdicts.exists() else []
    known = {json.loads(line)[0] for line in lines}
    asked = [
        mutant
        for mutant in mutants_of(folder)
        if mutant.module.startswith(tuple(modules)) and not mutant.is_wording
    ]
    return [mutant.name for mutant in in_turn(asked, seed) if mutant.name not in known]


def main(given: argparse.Namespace) -> None:
    """Make the mutants if that was not done, and try those that were not tried."""
    folder = given.folder.resolve()
    if not (folder / "mutants" / "mutmut-stats.json").exists():
        prepare(folder)
    todo = untried(folder, given.modules, given.seed)
    os.chdir(folder / "mutants")
    statistics = json.loads(Path("mutmut-stats.json").read_text())
    end = time.monotonic() + 60 * given.minutes
    plan = takewhile(
        lambda _: time.monotonic() < end,
        ((name, tests_of(name, statistics, given.seconds)) for name in todo),
    )
    os.environ["MUTANT_UNDER_TEST"] = ""
    modules = sorted({test.partition("::")[0] for test in statistics["duration_by_test"]})
    with (folder / "verdicts.jsonl").open("a", buffering=1) as file:
        note = partial(_note, file)
        try_all(modules, Trials(plan, note, given.workers))


def _note(file: TextIO, name: str, verdict: str, seconds: float) -> None:
    file.write(json.dumps([name, verdict, round(seconds, 1)]) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", default="", help="what the order is drawn by, any text")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="start no more after so long"
    )
    parser.add_argument("--seconds", type=float, default=8, help="of tests a mutant meets at most")
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at a time")
    parser.add_argument("--modules", nargs="+", default=[""], help="such as: fid splits/walk")
    main(parser.parse_args())
