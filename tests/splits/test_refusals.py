"""Requests that no ladder can meet end in one error that says so, each by the way it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.splits.build.construction import add_null, build_ladder, rebuild_ladder
from oodml.splits.build.start import drawn_split, read_sides
from oodml.splits.build.state import Pool
from oodml.splits.formats.csv import parse_csv
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split

GROUPED = replace(make_features(classes=6, per_class=4, dimension=3), groups=tuple("aabbcc"))
GROUPS = Pool.of(GROUPED, by="group")
UNMEASURED = Split(("a", "b"), ("c", "d"))


def unmeasured(ladder: Ladder, features: Features) -> object:
    split = replace(ladder.rungs[0], shift=None, published_fid=1.0)
    alone = replace(ladder, rungs=(split,), rung_steps=(0,))
    return add_null(alone, features)


def other_features(ladder: Ladder, features: Features) -> object:
    other = replace(features, source=replace(features.source, precision="bf16"))
    return rebuild_ladder(ladder, other)


REQUESTS: dict[str, tuple[Callable[[Ladder, Features], object], type[Exception], str]] = {
    "other features": (other_features, DataError, "measured on"),
    "one rung": (lambda _, f: build_ladder(f, rungs=1), UsageError, "1 rungs.*at least 2"),
    "both": (lambda _, f: build_ladder(f, fids=[1], steps=[1]), UsageError, "fids and steps"),
    "budget": (
        lambda _, f: build_ladder(f, search="best", budget=-1), UsageError, "budget -1",
    ),
    "a step twice": (lambda _, f: build_ladder(f, steps=(0, 0, 1)), UsageError, "twice"),
    "rungs beside fids": (
        lambda _, f: build_ladder(f, rungs=3, fids=[9.0]), UsageError, "rungs and fids",
    ),
    "rungs beside steps": (
        lambda _, f: build_ladder(f, rungs=3, steps=[0]), UsageError, "rungs and steps",
    ),
    "a budget for nothing": (lambda _, f: build_ladder(f, budget=5), UsageError, "budget 5"),
    "one draw": (lambda _, f: build_ladder(f, null=1), UsageError, "null 1"),
    "endless": (lambda _, f: build_ladder(f, fids=[float("inf")]), UsageError, "finite"),
    "no shift": (unmeasured, DataError, "no measured shift"),
    "fraction": (
        lambda *_: drawn_split(GROUPS, by="group", train_fraction=1.0, seed=0),
        UsageError, "fraction 1.0",
    ),
    "no distance": (lambda *_: UNMEASURED.fid, DataError, "carries no measured shift"),
    "no table": (lambda *_: parse_csv(["a,b"], "x.csv"), DataError, "x.csv: the first"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_what_cannot_be_done_is_said_in_one_line(
    name: str, ladder: Ladder, features: Features
) -> None:
    request, kind, words = REQUESTS[name]
    with pytest.raises(kind, match=words) as error:
        request(ladder, features)
    assert "\n" not in str(error.value)


def test_a_start_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "start.csv"
    path.write_bytes(bytes([0xFF, 0xFE, 0x00, 0xD8]) + np.arange(9, dtype=np.uint8).tobytes())
    with pytest.raises(DataError, match=r"start\.csv"):
        read_sides(path)
