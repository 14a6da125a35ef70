"""Charts of the shift itself: what FID, its null and its excess do as classes are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oodml.errors import UsageError
from oodml.eval.figures.style import new_figure, save_figure
from oodml.fid.shift import Shift

_SIZE = (6.4, 2.7)  # inches: two panels side by side
_COLORS = ("#0072B2", "#D55E00", "#009E73")


def plot_random_removal(
    series: Mapping[str, Sequence[tuple[int, Shift]]], path: str | Path, *, fid_label: str
) -> None:
    """Write FID (left) and excess FID (right) against the classes left on a side.

    `series` holds, per name, pairs of a class count and the `Shift` measured with its null; the
    nulls are drawn dashed with a band of one standard deviation. Raises `UsageError` for a suffix
    other than .png, .svg or .pdf, or a shift without a null.
    """
    with save_figure(path) as save:
        figure = new_figure(*_SIZE)
        figure.set_layout_engine("constrained")
        plain, excess = figure.subplots(1, 2)
        for color, (name, measured) in zip(_COLORS, series.items(), strict=False):
            counts = [count for count, _ in measured]
            _draw_fid(plain, counts, [shift for _, shift in measured], color, name)
            _draw_excess(excess, counts, [shift for _, shift in measured], color, name)
        for axes, words in ((plain, fid_label), (excess, "excess over random splits")):
            _dress(axes, words)
        plain.legend(frameon=False, fontsize=7)
        save(figure)


def _null(shift: Shift) -> tuple[float, float]:
    if shift.null_mean is None or shift.null_sd is None:
        raise UsageError("a shift without a null; measure it with null=20 or so.")
    return shift.null_mean, shift.null_sd


def _draw_fid(
    axes: Any, counts: Sequence[int], shifts: Sequence[Shift], color: str, name: str
) -> None:
    nulls = [_null(shift) for shift in shifts]
    axes.plot(counts, [shift.fid for shift in shifts], color=color, marker="o", ms=3, label=name)
    axes.plot(counts, [mean for mean, _ in nulls], color=color, ls=":", lw=1, label="its null")


def _draw_excess(
    axes: Any, counts: Sequence[int], shifts: Sequence[Shift], color: str, name: str
) -> None:
    values = [shift.fid - _null(shift)[0] for shift in shifts]
    spread = [_null(shift)[1] for shift in shifts]
    axes.plot(counts, values, color=color, marker="o", ms=3, label=name)
    low = [value - sd for value, sd in zip(values, spread, strict=True)]
    high = [value + sd for value, sd in zip(values, spread, strict=True)]
    axes.fill_between(counts, low, high, color=color, alpha=0.2, lw=0)


def _dress(axes: Any, words: str) -> None:
    axes.set_xlabel("classes left on a side")
    axes.set_ylabel(words)
    axes.invert_xaxis()
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.spines[["top", "right"]].set_visible(False)
