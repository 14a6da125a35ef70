"""How losses weigh pairs: one small panel a method, weight against similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from oodml.errors import DataError
from oodml.eval.figures.binned_weights import BINS, Bin, BinnedWeights
from oodml.eval.figures.style import GREY, TEST, TRAIN, new_figure, save_figure

_COLUMNS = 3
_PANEL = (2.1, 1.5)  # inches
_PULLED = "pairs of one class are pulled together below 0"
_PUSHED = "pairs of two classes are pushed apart above 0"


def plot_pair_weights(
    weights: Mapping[str, BinnedWeights], path: str | Path, *, title: str = ""
) -> None:
    """Write mean and extent of the pair weights against similarity, a panel for each label.

    Every panel is scaled to its own largest weight, since weights of different losses have
    different units: read the shapes. Equal weights give equal bytes. Raises `UsageError` for a
    suffix other than .png, .svg and .pdf, `DataError` if there is nothing to draw.
    """
    if not weights:
        raise DataError(
            "no run holds pair weights; losses over pairs, triplets and class vectors keep them."
        )
    with save_figure(path) as save:
        save(_figure(weights, title))


def _figure(weights: Mapping[str, BinnedWeights], title: str) -> Any:
    columns = min(_COLUMNS, len(weights))
    rows = ceil(len(weights) / columns)
    figure = new_figure(max(columns * _PANEL[0], 4.2), rows * _PANEL[1] + 0.75)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, (label, own) in zip(panels, weights.items(), strict=False):
        _draw(axes, label, own)
    for axes in panels[len(weights) :]:
        axes.set_visible(False)
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.42 / figure.get_figwidth(),
        right=0.99,
        bottom=0.42 / height,
        top=1 - 0.55 / height,
        hspace=0.35,
        wspace=0.08,
    )
    figure.supxlabel("cosine similarity of the pair", fontsize=8, y=0.02 / height)
    top = 1 - 0.08 / height
    if title:
        figure.text(0.01, top, title, fontsize=8, va="top")
    figure.text(0.01, top - 0.17 / height, _PULLED, fontsize=7, color=TRAIN, va="top")
    figure.text(0.99, top - 0.17 / height, _PUSHED, fontsize=7, color=TEST, va="top", ha="right")
    return figure


def _draw(axes: Any, label: str, weights: BinnedWeights) -> None:
    both = (*weights.positive, *weights.negative)
    largest = max((abs(value) for b in both for value in (b.least, b.most)), default=0.0) or 1.0
    for side, color in ((weights.negative, TEST), (weights.positive, TRAIN)):
        _draw_side(axes, side, color, largest)
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set(xlim=(-1, 1), ylim=(-1.08, 1.08), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    name = label if weights.partner == "sample" else f"{label} (proxies)"
    axes.set_title(name, fontsize=7.5, loc="left", pad=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


def _draw_side(axes: Any, side: Sequence[Bin], color: str, largest: float) -> None:
    centers = [b.low + 1 / BINS for b in side]
    axes.vlines(
        centers,
        [b.least / largest for b in side],
        [b.most / largest for b in side],
        color=color,
        alpha=0.3,
        linewidth=2.0,
    )
    axes.plot(centers, [b.mean / largest for b in side], ".", color=color, markersize=3)
