"""Calls of the command line, a ladder of drawings that it built, and a directory of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from oodml.cli import main
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder

NETWORK = ("--backbone", "efficientnet_lite0", "--image-size", "32")


def oodml(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="oodml")


def done(*arguments: object) -> Result:
    result = oodml(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(code: int, *arguments: object) -> str:
    """The one line in which a command ends that exits with `code`."""
    result = oodml(*arguments)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and "Traceback" not in result.output, result.output
    return last


@pytest.fixture(scope="session")
def built(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A ladder of the drawings and the cache that it was built with."""
    root = tmp_path_factory.mktemp("cli")
    done(
        "ladder", "build", image_folder, "-o", root / "ladder.json", "--rungs", 2,
        "--min-classes", 3, "--cache", root / "cache", *NETWORK,
    )  # fmt: skip
    return root / "ladder.json", root / "cache"


METHODS = ("frozen", "margin", "arcface", "proxy_anchor")
PROPERTIES = ("alignment", "uniformity")


def records_of(ladder: Ladder) -> list[RunRecord]:
    random = np.random.default_rng(0)
    return [
        _record(ladder, rung, method, seed, 0.8 - 0.1 * rung - 0.02 * number, random)
        for number, method in enumerate(METHODS)
        for rung in range(len(ladder.rungs))
        for seed in range(1 if method == "frozen" else 3)
    ]


def _record(
    ladder: Ladder, rung: int, method: str, seed: int, level: float, random: np.random.Generator
) -> RunRecord:
    source, split = ladder.features, ladder.rungs[rung]
    value = level + 0.004 * random.normal()
    train = "none" if method == "frozen" else "head"
    spec = RunSpec.on(source, split.id, method, seed=seed, train=train)
    shapes = {name: value + 0.01 * random.normal() for name in PROPERTIES}
    episodes = [
        {"zero_shot": {"recall_at_1": value}, "few_shot": {"recall_at_1": value + gain}}
        for gain in random.normal(0.03, 0.01, 4).tolist()
    ]
    return RunRecord(
        spec, split.shift.to_json() if split.shift else {}, {"recall_at_1": value}, {}, {}, 1.0,
        geometry={"train": shapes, "test": shapes},
        few_shot={"2": {"episodes": episodes, "left_out": 4 * (rung == 1)}},
    )  # fmt: skip


@pytest.fixture(scope="session")
def runs(ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs")
    ladder.save(directory / "ladder.json")
    for record in records_of(ladder):
        Store(directory).finish(record)
    return directory


@pytest.fixture(scope="session")
def reference_runs(ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain runs, their matched references, and two random splits on the first rung."""
    directory = tmp_path_factory.mktemp("reference_runs")
    ladder.save(directory / "ladder.json")
    for record in (*records_of(ladder), *references_of(ladder)):
        Store(directory).finish(record)
    return directory


def references_of(ladder: Ladder) -> list[RunRecord]:
    """Frozen features at 0.5, 0.4, 0.3; margin gains 0.1, 0.02, -0.1 and matched 0.1 everywhere."""
    random = np.random.default_rng(1)
    records = []
    for rung, seed in np.ndindex(len(ladder.rungs), 3):
        level = 0.5 - 0.1 * rung
        sides = {"shifted": level + (0.1, 0.02, -0.1)[rung], "matched": level + 0.1}
        records.append(_reference(ladder, rung, seed, level, "frozen", trained_on="nothing"))
        for side, value in sides.items():
            value += 0.002 * random.normal()
            records.append(_reference(ladder, rung, seed, value, "margin", trained_on=side))
    for draw in (1, 2):
        for side, value in (("shifted", 0.5), ("matched", 0.5 + 0.01 * draw)):
            records.append(
                _reference(ladder, 0, draw - 1, value, "margin", trained_on=side, null_draw=draw)
            )
    return records


def _reference(
    ladder: Ladder, rung: int, seed: int, value: float, method: str, **settings: object
) -> RunRecord:
    train = "none" if method == "frozen" else "head"
    split = ladder.rungs[rung]
    spec = RunSpec.on(ladder.features, split.id, method, seed=seed, train=train, **settings)
    return RunRecord(
        spec, split.shift.to_json() if split.shift else {}, {"recall_at_1": value}, {}, {}, 1.0
    )
