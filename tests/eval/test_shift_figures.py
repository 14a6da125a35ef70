from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oodml.errors import UsageError
from oodml.eval.figures.shift_figures import plot_random_removal
from oodml.fid.shift import Shift, with_null

BARE = Shift("sample", 50.0, 20.0, 30.0, 900, 900, 16, 1e-9)
SERIES = {
    "by group": [
        (count, with_null(replace(BARE, fid=fid), fid - 30, 2.0, 10))
        for count, fid in ((800, 80.0), (400, 100.0), (100, 160.0))
    ]
}


def test_equal_measurements_give_equal_charts(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot_random_removal(SERIES, tmp_path / name, fid_label="FID (sample level, x)")
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes()
    for words in (b"FID (sample level, x)", b"excess over random splits", b"by group"):
        assert words in first
    longer = {"by group": [*SERIES["by group"], (50, with_null(BARE, 40.0, 3.0, 10))]}
    plot_random_removal(longer, tmp_path / "c.svg", fid_label="FID (sample level, x)")
    assert (tmp_path / "c.svg").read_bytes() != first


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png"):
        plot_random_removal(SERIES, tmp_path / "a.txt", fid_label="FID")
    with pytest.raises(UsageError, match="without a null"):
        plot_random_removal({"x": [(5, BARE)]}, tmp_path / "a.png", fid_label="FID")
    assert not list(tmp_path.iterdir())
