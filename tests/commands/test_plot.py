"""`oodml plot` on a directory of made-up runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands.conftest import done, refused


@pytest.mark.parametrize("view", ["curves", "deviation", "scores", "few-shot", "geometry"])
def test_every_chart_is_drawn(runs: Path, tmp_path: Path, view: str) -> None:
    path = tmp_path / "chart.svg"
    assert str(path) in done("plot", runs, "--view", view, "-o", path).output
    assert b"<svg" in path.read_bytes()


def test_the_transfer_chart_comes_with_its_caption(reference_runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    output = done("plot", reference_runs, "--view", "transfer", "--x", "scaled", "-o", path).output
    assert b"<svg" in path.read_bytes()
    assert "matched on as many other classes of the test side" in output


def test_curves_mark_the_break_even_where_reference_runs_give_one(
    runs: Path, reference_runs: Path, tmp_path: Path
) -> None:
    plain, marked = (tmp_path / f"{name}.svg" for name in ("plain", "marked"))
    done("plot", runs, "-o", plain)
    done("plot", reference_runs, "-o", marked)
    assert plain.read_bytes() != marked.read_bytes()
    # Reference runs add nothing else to the curves.
    done("plot", runs, "--view", "scores", "-o", plain)
    done("plot", reference_runs, "--view", "scores", "-o", marked)
    assert plain.read_bytes() == marked.read_bytes()


def test_charts_have_names_of_their_own(runs: Path) -> None:
    done("plot", runs, "--view", "scores")
    assert (runs / "recall_at_1-scores.png").exists() and (runs / "recall_at_1-scores.svg").exists()


def test_published_curves_share_an_axis_only_when_scaled(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    done("plot", runs, "--published", "cub200", "-o", path)
    done("plot", "--published", "cub200", "-o", path)
    both = ("plot", runs, "--published", "cub200", "-o", path)
    assert "--x scaled" in refused(2, *both, "--x", "fid")
    assert "no excess" in refused(2, "plot", "--published", "cub200", "--x", "excess", "-o", path)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("-o a.png", 2, "--published"),
        ("--published sop --view geometry -o a.png", 2, "geometry"),
        ("{runs} -o a.gif", 2, ".png"),
        ("{runs} --x excess -o a.png", 1, "null="),
        ("{runs} --view transfer -o a.png", 1, "--reference"),
        ("{runs} --view transfer --published sop -o a.png", 2, "--published"),
        ("--published sop --view transfer -o a.png", 2, "transfer"),
        ("{runs} --rung 1 -o a.png", 2, "--rung"),
        ("{runs} --coefficient pearson -o a.png", 2, "--coefficient"),
        ("{runs} --view geometry --x scaled -o a.png", 2, "--x"),
        ("{runs} --pair-weights --x scaled -o a.png", 2, "--x"),
        ("{runs} --pair-weights --rung 9 -o a.png", 2, "rung 9"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    arguments: str, code: int, words: str, runs: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert words in refused(code, "plot", *arguments.format(runs=runs).split())
    assert not list(tmp_path.iterdir())
