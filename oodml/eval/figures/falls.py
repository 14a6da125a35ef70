"""Bars of what methods lose along a ladder, divided into difficulty and shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oodml.eval.figures.layout import EDGE, fit, key_at, longest
from oodml.eval.figures.style import GREY, INK, TEST
from oodml.eval.statistics.intervals import Estimate
from oodml.eval.statistics.transfer import MethodTransfer

_NAMES = 1.45  # inches that the names of the rows get at most
_DIFFICULTY: dict[str, Any] = {
    "facecolor": "#DDDDDD",
    "edgecolor": "#999999",
    "hatch": "//////",
    "linewidth": 0,
}
_SHIFT: dict[str, Any] = {"facecolor": TEST, "linewidth": 0}


def with_falls(found: Sequence[MethodTransfer]) -> list[MethodTransfer]:
    return [each for each in found if len(each.rows) > 1 and each.rows[-1].cost_rise is not None]


def draw_falls(axes: Any, falls: Sequence[MethodTransfer]) -> None:
    """Bars to the right for what is lost, to the left for what is won, part after part."""
    for place, each in enumerate(falls):
        for start, part, look in _parts(each):
            axes.barh(place, part.value, left=start, height=0.74, **look)
            if part.low is not None and part.high is not None:
                reach = [start + part.low, start + part.high]
                axes.plot(reach, [place + 0.28] * 2, color=INK, linewidth=0.9)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_ylim(len(falls) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=6)


def write_falls(axes: Any, falls: Sequence[MethodTransfer], room: float) -> None:
    """The values in the parts of the bars that are long enough for them."""
    from matplotlib.patheffects import withStroke

    low, high = axes.get_xlim()
    for place, each in enumerate(falls):
        for start, part, look in _parts(each):
            if abs(part.value) / (high - low) * room > 0.4:
                axes.text(
                    start + part.value / 2,
                    place - 0.07,
                    f"{part.value:.3f}",
                    fontsize=7,
                    color=INK if look is _DIFFICULTY else "white",
                    ha="center",
                    va="center",
                    path_effects=[withStroke(linewidth=2, foreground=look["facecolor"])],
                )


def explain_falls(figure: Any, top: float) -> None:
    from matplotlib.patches import Patch

    difficulty = Patch(**_DIFFICULTY)
    key_at(figure, EDGE, top, difficulty, "difficulty: matched loses it too", 7.5)
    key_at(figure, 2.45, top, Patch(**_SHIFT), "shift: the rest", 7.5)


def name_width(figure: Any, found: Sequence[MethodTransfer], size: float) -> float:
    names = longest(figure, [each.series.name for each in found], size)
    return min(names, _NAMES) + 2 * EDGE + 0.02


def name_rows(
    axes: Any, found: Sequence[MethodTransfer], left: float, room: float, size: float
) -> None:
    for place, each in enumerate(found):
        text = axes.text(-0.06 / room, place, each.series.name, fontsize=size, ha="right",
                         va="center", transform=axes.get_yaxis_transform())  # fmt: skip
        fit(text, left - 2 * EDGE)
    axes.set_yticks([])
    axes.tick_params(labelsize=7.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)


def _parts(each: MethodTransfer) -> list[tuple[float, Estimate, dict[str, Any]]]:
    """Where each part of the bar starts, its length and its look."""
    ends, parts = {True: 0.0, False: 0.0}, []
    last = each.rows[-1]
    for part, look in ((last.difficulty, _DIFFICULTY), (last.cost_rise, _SHIFT)):
        if part is not None:
            parts.append((ends[part.value >= 0], part, look))
            ends[part.value >= 0] += part.value
    return parts
