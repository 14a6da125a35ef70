"""Chart of how each geometry property goes with the metric, on training and on test embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oodml.errors import DataError
from oodml.eval.figures.style import GREY, TEST, TRAIN, new_figure, save_figure
from oodml.eval.statistics.correlation import SIDES, Correlation
from oodml.eval.statistics.intervals import Estimate

_WIDTH, _ROW = 4.4, 0.36  # inches
_OVER_RUNGS = {"pooled": (TEST, "s", 0.17), "within": (TRAIN, "o", -0.17)}


def plot_geometry(
    correlations: Sequence[Correlation],
    path: str | Path,
    *,
    metric: str = "recall_at_1",
    coefficient: str = "spearman",
) -> None:
    """Write one row a property: its correlation with the metric, as PNG, SVG or PDF.

    Small ticks are single rungs, pale for the easiest and dark for the hardest; squares pool the
    rungs, dots pool them after taking off each rung's means, both with 95% intervals.
    `coefficient` is "spearman" or "pearson". Equal correlations give equal bytes.
    """
    known = [each for each in correlations if getattr(each, coefficient) is not None]
    known.sort(key=lambda each: (each.property, each.side, each.scope))
    if not known:
        raise DataError(
            "nothing to plot: a correlation needs the geometry of at least three methods."
        )
    with save_figure(path, dpi=300) as save:
        save(_figure(known, metric, coefficient))


def _figure(correlations: Sequence[Correlation], metric: str, coefficient: str) -> Any:
    names = sorted({each.property for each in correlations}, reverse=True)
    sides = [side for side in SIDES if any(each.side == side for each in correlations)]
    height = 1.05 + _ROW * len(names)
    figure = new_figure(_WIDTH, height)
    panels = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axes, side in zip(panels, sides, strict=True):
        for place, name in enumerate(names):
            own = [c for c in correlations if (c.property, c.side) == (name, side)]
            _draw_rungs(axes, place, own, coefficient)
            _draw_over_rungs(axes, place, own, coefficient)
        _dress(axes, f"{side} embeddings", len(names))
    panels[0].set_yticks(range(len(names)), [n.replace("_", " ") for n in names], fontsize=7.5)
    figure.subplots_adjust(
        left=0.29, right=0.98, top=1 - 0.22 / height, bottom=0.72 / height, wspace=0.08
    )
    words = f"{coefficient.capitalize()} correlation with {metric.replace('_', ' ')}"
    figure.text(0.635, 0.34 / height, words, ha="center", fontsize=8.5)
    _legend(figure)
    return figure


def _draw_rungs(axes: Any, place: int, own: Sequence[Correlation], coefficient: str) -> None:
    rungs = [each for each in own if each.scope.startswith("rung ")]
    rungs.sort(key=lambda each: int(each.scope.removeprefix("rung ")))
    for number, each in enumerate(rungs):
        grey = 0.82 - 0.62 * (number / max(1, len(rungs) - 1))
        value = getattr(each, coefficient).value
        axes.plot([value], [place], "|", color=str(grey), markersize=6, markeredgewidth=1.1)


def _draw_over_rungs(axes: Any, place: int, own: Sequence[Correlation], coefficient: str) -> None:
    for each in own:
        if each.scope in _OVER_RUNGS:
            color, marker, offset = _OVER_RUNGS[each.scope]
            estimate: Estimate = getattr(each, coefficient)
            if estimate.low is not None and estimate.high is not None:
                axes.plot(
                    [estimate.low, estimate.high],
                    [place + offset] * 2,
                    color=color,
                    linewidth=1,
                    alpha=0.7,
                )
            axes.plot([estimate.value], [place + offset], marker, color=color, markersize=4)


def _dress(axes: Any, title: str, count: int) -> None:
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.set(xlim=(-1.05, 1.05), ylim=(-0.6, count - 0.4), xticks=[-1, -0.5, 0, 0.5, 1])
    axes.set_xticklabels(["-1", "-.5", "0", ".5", "1"])
    axes.set_title(title, loc="left", fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color="0.5", marker="|", linestyle="none", label="one rung (dark: hardest)"),
        Line2D([], [], color=TEST, marker="s", markersize=4, linewidth=1, label="pooled"),
        Line2D([], [], color=TRAIN, marker="o", markersize=4, linewidth=1, label="within rungs"),
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize=7.5,
        handlelength=1.6,
        columnspacing=1.2,
        borderaxespad=0.1,
    )
