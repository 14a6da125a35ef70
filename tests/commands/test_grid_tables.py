"""Grid files as text: whatever is written, a TOML reader finds again."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oodml.commands.grid_file import grid_tables

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SINGLE = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
)
VALUES = SINGLE | st.lists(SINGLE, max_size=3) | st.dictionaries(WORDS, SINGLE, max_size=3)


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
