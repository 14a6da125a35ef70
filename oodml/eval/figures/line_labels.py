"""Names of lines beside their ends, without overlaps, or in a legend below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from oodml.eval.figures.style import INK, LineStyle, line_style
from oodml.eval.statistics.series import Series

EDGE = 0.006  # share of a figure's width that stays free at its edges
LINE = 0.175  # inches of one more line of an axis's name or of a title
_ROW = 0.155  # inches of a row of a legend


def name_lines(
    figure: Any,
    axes: Any,
    ends: Mapping[Series, tuple[float, float]],
    styles: Mapping[Series, LineStyle],
    *,
    left: float = 0.135,
) -> None:
    """Name every line beside its end; in a legend below if the names do not fit there.

    The figure grows by further lines of the title and of the x axis's name. `left` is the share of
    the width that the y axis usually needs for its labels; longer labels get more.
    """
    above = LINE * axes.get_title("left").count("\n")
    below = LINE * axes.get_xlabel().count("\n")
    height = figure.get_figheight() + above + below
    figure.set_figheight(height)
    above, below = 0.22 + above, 0.465 + below
    figure.subplots_adjust(left=left, right=0.97, top=1 - above / height, bottom=below / height)
    shift = EDGE - axes.yaxis.get_tightbbox().x0 / figure.bbox.width
    figure.subplots_adjust(left=left + max(0.0, shift))
    _name_ends(figure, axes, ends, styles)
    _keep_inside(figure, axes)


def _name_ends(
    figure: Any,
    axes: Any,
    ends: Mapping[Series, tuple[float, float]],
    styles: Mapping[Series, LineStyle],
) -> None:
    from matplotlib.lines import Line2D

    lines = sorted(ends, key=lambda series: ends[series][1])
    texts = [
        axes.text(1, 0, each.name, color=styles[each].color, va="center", fontsize=8)
        for each in lines
    ]
    boxes = [text.get_window_extent() for text in texts]
    width = max(box.width for box in boxes) / figure.bbox.width
    step = 1.12 * max(box.height for box in boxes) / axes.bbox.height
    if width > 0.36 or step * len(lines) > 1:
        for text in texts:
            text.remove()
        legend_below(figure, {each: styles[each] for each in lines[::-1]})
        return
    figure.subplots_adjust(right=0.97 - width - 0.04)
    from_data = axes.transData + axes.transAxes.inverted()
    points = [from_data.transform(ends[each]) for each in lines]
    heights = spread([float(y) for _, y in points], step)
    for text, (x, y), height in zip(texts, points, heights, strict=True):
        text.set(transform=axes.transAxes, x=1.065, y=height)
        leader = Line2D([x + 0.015, 1.055], [y, height], color=text.get_color(), linewidth=0.5)
        leader.set(transform=axes.transAxes, clip_on=False)
        axes.add_artist(leader)


def _keep_inside(figure: Any, axes: Any) -> None:
    """Move the names of both axes back onto the page, and shrink those that are too long."""
    for label, side, place in (
        (axes.xaxis.label, 0, axes.xaxis.label.set_x),
        (axes.yaxis.label, 1, axes.yaxis.label.set_y),
    ):
        page, room = (box.bounds[2 + side] for box in (figure.bbox, axes.bbox))
        length = label.get_window_extent().bounds[2 + side]
        label.set_fontsize(label.get_fontsize() * min(1.0, (1 - 2 * EDGE) * page / length))
        low, high = label.get_window_extent().get_points()[:, side]
        inside = max(0.0, EDGE * page - low) + min(0.0, (1 - EDGE) * page - high)
        place(0.5 + inside / room)


def spread(heights: Sequence[float], step: float) -> list[float]:
    """Rising heights moved as little as can be (in squares) until each is `step` above the last.

    They also end inside [step / 2, 1 - step / 2], as far as they fit.
    """
    blocks: list[list[float]] = []
    for number, height in enumerate(heights):
        blocks.append([height - number * step])
        while len(blocks) > 1 and np.mean(blocks[-2]) >= np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    free = [float(np.mean(block)) for block in blocks for _ in block]
    top = 1 - step * (len(free) - 0.5)
    return [max(min(z, top), step / 2) + number * step for number, z in enumerate(free)]


def legend_below(figure: Any, styles: Mapping[Series, LineStyle]) -> None:
    """A legend in columns below the axes, in this order; the figure grows by its height.

    The lines of several methods on several models are explained by their methods and their models
    apart, where that takes fewer words.
    """
    # Among several models long enough for the gaps of all dashes to show beside the marker.
    length = 4.0 if any(each.among_several for each in styles) else 2.8
    blocks = [(*block, length, _columns(figure, *block, length)) for block in _blocks(styles)]
    rows = [-(-len(handles) // across) + bool(title) for title, handles, _, across in blocks]
    width, height = figure.get_size_inches()
    added = _ROW * sum(rows) + 0.04
    figure.set_size_inches(width, height + added)
    place = figure.subplotpars
    figure.subplots_adjust(
        top=1 - (1 - place.top) * height / (height + added),
        bottom=(place.bottom * height + added) / (height + added),
    )
    for number, block in enumerate(blocks):
        _legend(figure, *block, _ROW * sum(rows[number + 1 :]) / (height + added))


def _columns(figure: Any, title: str | None, handles: Sequence[Any], length: float) -> int:
    """The most columns, of three at most, in which no name leaves the page."""
    for columns in (3, 2) if max(map(_length, handles)) < 22 else (2,):
        legend = _legend(figure, title, handles, length, columns)
        width = legend.get_window_extent().width
        legend.remove()
        if width <= (1 - 2 * EDGE) * figure.bbox.width:
            return columns
    return 1


def _legend(
    figure: Any,
    title: str | None,
    handles: Sequence[Any],
    length: float,
    columns: int,
    bottom: float = 0.0,
) -> Any:
    return figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, bottom),
        ncols=columns,
        frameon=False,
        title=title,
        title_fontsize=7,
        fontsize=7.5,
        handlelength=length,
        columnspacing=1.2,
        labelspacing=0.3,
        borderaxespad=0.1,
    )


def _length(handle: Any) -> int:
    return len(handle.get_label())


def _blocks(styles: Mapping[Series, LineStyle]) -> list[tuple[str | None, list[Any]]]:
    """The parts of the legend with their titles, the upper one first."""
    several = {each: style for each, style in styles.items() if each.among_several}
    models = {each.backbone: style for each, style in sorted(several.items())}
    methods = dict.fromkeys(each.method for each in several)
    if len(methods) + len(models) >= len(several):
        return [(None, [_handle(each.name, style) for each, style in styles.items()])]
    plain = {method: replace(line_style(method), dashes="", pale=0.0) for method in methods}
    plain |= {each.name: style for each, style in styles.items() if each not in several}
    grey = {model: replace(style, color=INK, marker="o") for model, style in models.items()}
    return [
        ("methods: colour and marker", [_handle(*item) for item in plain.items()]),
        ("models: dashes and fill of the marker", [_handle(*item) for item in grey.items()]),
    ]


def _handle(name: str, style: LineStyle) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        linestyle=style.linestyle,
        linewidth=1.3,
        markersize=4,
        label=name,
        **{**style.markers, "markeredgecolor": style.color},
    )
