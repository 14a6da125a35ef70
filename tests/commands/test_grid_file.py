"""Grid files: the words of the command line in a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from commands.conftest import done
from conftest import make_features
from hypothesis import given
from hypothesis import strategies as st

from oodml.commands.grid_file import GridTable, grid_tables, read_grids
from oodml.commands.run import run_command
from oodml.errors import DataError, UsageError
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder

WHOLE = """
[[grid]]
methods = ["margin", "margin:nu=0.1"]
hyperparameters = {beta = 0.6, per_class = true}
seeds = 5
rungs = ["0-1", 3]
learning-rate = 2e-3
train-batch-size = 24
few-shot = "head"

[[grid]]
methods = ["frozen"]
equal-gallery = true
"""


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SINGLE = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
)
VALUES = SINGLE | st.lists(SINGLE, max_size=3) | st.dictionaries(WORDS, SINGLE, max_size=3)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return path


def test_tables_are_read_in_the_words_of_the_command_line(tmp_path: Path) -> None:
    first, second = read_grids(written(tmp_path, WHOLE), run_command)
    assert first.methods == (
        "margin:beta=0.6,per_class=true",
        "margin:nu=0.1,beta=0.6,per_class=true",
    )
    assert first.options == {
        "seeds": 5,
        "rungs": (0, 1, 3),
        "learning_rate": 0.002,
        "train_batch_size": 24,
        "few_shot": "head",
    }
    assert second == GridTable(("frozen",), {"equal_gallery": True})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[grid]]\nmethods = ['margin']\nlearning_rat = 1", "learning-rate"),
        ("[[grids]]\nmethods = ['margin']", "grid"),
        ("[grid]\nmethods = ['margin']", r"\[\[grid\]\]"),
        ("[[grid]]\nseeds = 3", "name its methods"),
        ("[[grid]]\nmethods = 'margin'", "name its methods"),
        ("[[grid]]\nmethods = ['margin']\nseeds = 0", "at least 1"),
        ("[[grid]]\nmethods = ['margin']\nseeds = true", "at least 1"),
        ("[[grid]]\nmethods = ['margin']\nrungs = 'all'", "'all'"),
        ("[[grid]]\nmethods = ['margin']\nsteps = 'many'", "steps"),
        ("[[grid]]\nmethods = ['margin']\nsteps = [3]", "a single value"),
        ("[[grid]]\nmethods = ['margin']\nequal-gallery = 1", "true or false"),
        ("[[grid]]\nmethods = ['margin']\nreference = 'yes'", "true or false"),
        ("[[grid]]\nmethods = ['margin']\nreference-null = -1", "reference-null = -1"),
        ("[[grid]]\nmethods = ['margin']\nhyperparameters = 3", "beta = 0.6"),
        ("[[grid]]\nmethods = ['margin']\ntrain = 'body'", "train"),
    ],
)
def test_what_means_nothing_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as error:
        read_grids(written(tmp_path, text), run_command)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_toml_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"grid\.toml is not valid TOML"):
        read_grids(written(tmp_path, "[[grid]\n"), run_command)


def test_grid_files_filters_and_methods_make_one_plan(tmp_path: Path) -> None:
    features = make_features()
    features.save(tmp_path / "features.npz")
    build_ladder(features, rungs=3, source=str(tmp_path / "features.npz")).save(
        tmp_path / "ladder.json"
    )
    text = '[[grid]]\nmethods = ["margin"]\nhyperparameters = {beta = 0.6}\nseeds = 1\nsteps = 4\n'
    grid = written(tmp_path, text)

    def run(*arguments: object) -> Result:
        settings = ("--train-batch-size", 24, "--embedding-dim", 8, "--workers", 1)
        return done("run", tmp_path / "ladder.json", "-o", tmp_path / "runs", *settings, *arguments)

    assert "6 runs: 2 methods x 3 splits" in run("--grid", grid, "-m", "frozen", "--dry-run").output
    some = run("--grid", grid, "--filter", "rung=1-2", "--order", "seeds")
    assert "2 runs done" in some.output
    records = Store(tmp_path / "runs").records()
    assert {(r.label, r.spec.training.steps) for r in records} == {("margin(beta=0.6)", 4)}
    more = run("--grid", grid, "--dry-run").output
    assert "2 done, 0 failed before, 1 to go" in more and "2 finished runs" in more

    text += "reference = true\nreference-null = 1\n\n[[grid]]\nmethods = ['arcface']\nseeds = 1\n"
    both = run("--grid", written(tmp_path, text), "--dry-run").output
    assert "6 runs: 2 methods x 3 splits x 1 seeds" in both
    # Of margin, 3 rungs: matched and shifted, frozen features, and both sides on a random split.
    assert "15 more" in both and "0 failed before, 19 to go" in both


@given(st.lists(st.dictionaries(WORDS, VALUES, max_size=4), min_size=1, max_size=3))
def test_a_reader_finds_what_was_written(grids: list[dict[str, Any]]) -> None:
    text = grid_tables(grids, comment="chosen somehow\n\nand kept")
    assert tomllib.loads(text) == {"grid": grids}


def test_a_file_looks_as_one_would_type_it() -> None:
    grid = {"methods": ["margin"], "hyperparameters": {"beta": 0.8, "base.x": True}, "steps": 300}
    assert grid_tables([grid], comment="chosen") == (
        "# chosen\n\n[[grid]]\n"
        'methods = ["margin"]\n'
        'hyperparameters = { beta = 0.8, "base.x" = true }\n'
        "steps = 300\n"
    )
