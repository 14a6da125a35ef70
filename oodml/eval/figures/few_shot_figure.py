"""Chart of what few-shot adaptation brings: relative gain against FID, one panel per shots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oodml.errors import DataError
from oodml.eval.figures.curves import mark_start, plain
from oodml.eval.figures.line_labels import legend_below
from oodml.eval.figures.method_styles import line_style
from oodml.eval.figures.style import GREY, new_figure, save_figure
from oodml.eval.statistics.few_shot import FewShotRow
from oodml.eval.statistics.intervals import Estimate
from oodml.eval.statistics.trend import line_ends

_WIDTH, _PANEL = 4.4, 1.75  # inches


def plot_few_shot(
    rows: Sequence[FewShotRow],
    path: str | Path,
    *,
    metric: str = "recall_at_1",
    fid_label: str = "FID",
    start: float | None = None,
    start_name: str = "start",
) -> None:
    """Write the relative gain over zero-shot against FID, as PNG, SVG or PDF.

    One panel per number of shots on one scale; bars are 95% intervals over episodes, straight lines
    are fitted to methods with at least three rungs. Equal rows give equal bytes. Raises `DataError`
    if no run was adapted.
    """
    known = [row for row in rows if row.relative_gain is not None]
    if not known:
        raise DataError(
            "nothing to plot: no run has few-shot episodes; make some with `oodml run --few-shot "
            "head`."
        )
    with save_figure(path, dpi=300) as save:
        figure = _figure(known, metric, fid_label)
        for axes in figure.axes:
            mark_start(axes, start, start_name, at_top=True)
        save(figure)


def _figure(rows: Sequence[FewShotRow], metric: str, fid_label: str) -> Any:
    from matplotlib.ticker import PercentFormatter

    shots = sorted({row.shots for row in rows})
    height = 0.65 + _PANEL * len(shots)
    figure = new_figure(_WIDTH, height)
    figure.subplots_adjust(
        left=0.165, right=0.97, top=1 - 0.22 / height, bottom=0.43 / height, hspace=0.2
    )
    panels = figure.subplots(len(shots), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    methods = sorted({row.method for row in rows})
    for axes, number in zip(panels, shots, strict=True):
        axes.axhline(0, color=GREY, linewidth=0.8)
        for method in methods:
            own = [row for row in rows if (row.method, row.shots) == (method, number)]
            _draw_method(axes, sorted(own, key=lambda row: row.fid))
        plain(axes)
        axes.set_title(f"{number} shots", loc="left", fontsize=8)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.margins(x=0.03)
    panels[0].set_title(_note(rows), loc="right", fontsize=7.5, color="#666666")
    panels[-1].set_xlabel(fid_label)
    figure.supylabel(f"relative gain in {metric.replace('_', ' ')}", fontsize=8.5, x=0.005)
    legend_below(figure, methods)
    return figure


def _draw_method(axes: Any, own: Sequence[FewShotRow]) -> None:
    if not own:
        return
    style = line_style(own[0].method)
    x = np.array([row.fid for row in own])
    gains = [row.relative_gain or Estimate(np.nan) for row in own]
    y = np.array([gain.value for gain in gains])
    reaches = [0.0 if gain.high is None else gain.high - gain.value for gain in gains]
    axes.errorbar(
        x,
        y,
        yerr=reaches,
        linestyle="none",
        color=style.color,
        marker=style.marker,
        markersize=4,
        markeredgecolor="white",
        markeredgewidth=0.5,
        elinewidth=0.7,
    )
    if len(own) >= 3:
        ends = line_ends(x, y)
        axes.plot(
            [x[0], x[-1]], ends, color=style.color, linestyle=style.dashes, linewidth=1.0, alpha=0.8
        )


def _note(rows: Sequence[FewShotRow]) -> str:
    counts = sorted({row.episodes for row in rows})
    if counts == [1]:
        return "one episode, no interval"
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean and 95% over {span} episodes"
