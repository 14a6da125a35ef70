"""Chart of the relative deviation from the mean of the methods, with a line per method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oodml.errors import DataError
from oodml.eval.figures.curves import MANY, SIZE, mark_start, plain
from oodml.eval.figures.line_labels import name_lines
from oodml.eval.figures.method_styles import line_style
from oodml.eval.figures.style import GREY, new_figure, save_figure
from oodml.eval.statistics.deviation import Deviation, deviation_lines


def plot_deviation(
    deviations: Sequence[Deviation],
    path: str | Path,
    *,
    metric: str = "recall_at_1",
    fid_label: str = "FID",
    start: float | None = None,
    start_name: str = "start",
) -> None:
    """Write each method's deviation from the methods' mean against FID, as PNG, SVG or PDF.

    Markers carry 95% intervals where there are seeds for them; a straight line is fitted to the
    markers of a method with at least three. Equal deviations give equal bytes.
    """
    if not deviations:
        raise DataError("nothing to plot: no finished runs on the rungs of this ladder.")
    with save_figure(path, dpi=300) as save:
        figure = _figure(deviations, metric, fid_label)
        mark_start(figure.axes[0], start, start_name)
        save(figure)


def _figure(deviations: Sequence[Deviation], metric: str, fid_label: str) -> Any:
    from matplotlib.ticker import PercentFormatter

    methods = sorted({each.method for each in deviations})
    many = len(methods) > MANY
    figure = new_figure(SIZE[0], SIZE[1] * (1.3 if many else 1))
    axes = figure.subplots()
    axes.axhline(0, color=GREY, linewidth=0.8)
    lines = {line.method: line for line in deviation_lines(deviations)}
    ends = {}
    for method in methods:
        own = sorted((d for d in deviations if d.method == method), key=lambda d: d.fid)
        _draw_markers(axes, own, many)
        ends[method] = (own[-1].fid, own[-1].deviation.value)
        if method in lines:
            line = lines[method]
            _draw_fit(axes, method, (own[0].fid, own[-1].fid), (line.easiest, line.hardest))
            ends[method] = (own[-1].fid, line.hardest)
    plain(axes)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.set_xlabel(fid_label)
    axes.set_ylabel(f"{metric.replace('_', ' ')} against the mean")
    axes.set_title(_note(deviations, many), loc="left", fontsize=7.5, color="#666666")
    axes.margins(x=0.02)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    name_lines(figure, axes, ends, left=0.165)
    return figure


def _draw_markers(axes: Any, own: Sequence[Deviation], many: bool) -> None:
    style = line_style(own[0].method)
    values = [each.deviation.value for each in own]
    reaches = [
        0.0 if each.deviation.high is None else each.deviation.high - each.deviation.value
        for each in own
    ]
    axes.errorbar(
        [each.fid for each in own],
        values,
        yerr=reaches if any(reaches) and not many else None,
        linestyle="none",
        color=style.color,
        marker=style.marker,
        markersize=3 if many else 4,
        markeredgecolor="white",
        markeredgewidth=0.5,
        elinewidth=0.7,
        alpha=0.85,
    )


def _draw_fit(axes: Any, method: str, x: tuple[float, float], y: tuple[float, float]) -> None:
    style = line_style(method)
    axes.plot(x, y, color=style.color, linestyle=style.dashes, linewidth=1.1)


def _note(deviations: Sequence[Deviation], many: bool) -> str:
    apart = sorted({each.method for each in deviations if not each.in_mean})
    intervals = not many and any(each.deviation.low is not None for each in deviations)
    note = "line fitted to each method" + "; bars: 95% over seeds" * intervals
    return note + f"; not in the mean: {', '.join(apart[:3])}" * bool(apart)
