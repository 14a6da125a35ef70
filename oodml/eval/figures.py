"""Charts with matplotlib: a metric against the measured shift, one line a method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.eval.chart import new_figure, save_figure
from oodml.eval.line_names import name_lines
from oodml.eval.styles import LineStyle, line_style

if TYPE_CHECKING:
    from oodml.eval.summary import SummaryRow

_SIZE = (4.4, 3.1)  # inches: text of 8 points stays readable in a column of 3.3 inches


def plot_curves(
    rows: Sequence[SummaryRow],
    path: str | Path,
    *,
    metric: str = "recall_at_1",
    fid_label: str = "FID",
    controls: Sequence[SummaryRow] = (),
) -> None:
    """Write the metric against FID, one line a method with its 95% band, as PNG, SVG or PDF.

    `fid_label` must name the FID's level and backbone (`Ladder.fid_label()`). A line breaks at a
    rung where its method has no runs. Methods are named at the ends of their lines, or in a
    legend below when they do not fit. `controls`, rows of the size-matched controls, are drawn
    dashed and pale at the FID of the rung they control, without a band. Equal rows give equal
    bytes. Raises `UsageError` for another suffix, `DataError` if there are no rows.
    """
    if not rows:
        raise DataError("nothing to plot: no finished runs on the rungs of this ladder.")
    with save_figure(path, dpi=300) as save:
        save(_figure(rows, metric, fid_label, controls))


def _figure(
    rows: Sequence[SummaryRow],
    metric: str,
    fid_label: str,
    controls: Sequence[SummaryRow] = (),
) -> Any:
    figure = new_figure(*_SIZE)
    axes = figure.subplots()
    fids = {row.rung: row.fid for row in rows}
    rungs = sorted(fids)
    x = np.array([fids[rung] for rung in rungs])
    ends: dict[str, tuple[float, float]] = {}
    for method in sorted({row.method for row in rows}):
        own = {row.rung: row for row in rows if row.method == method}
        mean = _values(rungs, own, "mean")
        _draw_controls(axes, [row for row in controls if row.method == method])
        _draw_line(axes, x, mean, own, rungs, line_style(method))
        last = rungs.index(max(own))
        ends[method] = (x[last], mean[last])
    _dress(axes, rows, metric, fid_label, bool(controls))
    name_lines(figure, axes, ends)
    return figure


def _values(rungs: list[int], own: dict[int, SummaryRow], name: str) -> npt.NDArray[np.float64]:
    found = [getattr(own[rung], name) if rung in own else None for rung in rungs]
    return np.array([np.nan if value is None else value for value in found], np.float64)


def _draw_controls(axes: Any, own: Sequence[SummaryRow]) -> None:
    """One dashed line: what a method reaches without shift on as many classes."""
    for row in own[:1]:
        axes.plot(
            [each.fid for each in own],
            [each.mean for each in own],
            color=line_style(row.method).color,
            linestyle=(0, (3, 2)),
            linewidth=0.9,
            alpha=0.6,
            marker=line_style(row.method).marker,
            markersize=3,
            markerfacecolor="white",
            markeredgewidth=0.7,
        )


def _draw_line(
    axes: Any,
    x: npt.NDArray[np.float64],
    mean: npt.NDArray[np.float64],
    own: dict[int, SummaryRow],
    rungs: list[int],
    style: LineStyle,
) -> None:
    low, high = _values(rungs, own, "low"), _values(rungs, own, "high")
    axes.fill_between(x, low, high, color=style.color, alpha=0.13, linewidth=0)
    axes.plot(
        x,
        mean,
        color=style.color,
        linestyle=style.dashes,
        linewidth=1.3,
        marker=style.marker,
        markersize=4,
        markeredgecolor="white",
        markeredgewidth=0.5,
    )


def _dress(
    axes: Any, rows: Sequence[SummaryRow], metric: str, fid_label: str, controlled: bool
) -> None:
    axes.set_xlabel(fid_label)
    axes.set_ylabel(metric.replace("_", " "))
    note = _interval_note(rows) + "; pale dashes: random splits" * controlled
    axes.set_title(note, loc="left", fontsize=7.5, color="#666666")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.02)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())


def _interval_note(rows: Sequence[SummaryRow]) -> str:
    fewest, most = min(row.n for row in rows), max(row.n for row in rows)
    if most == 1:
        return "one seed, no interval"
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"mean and 95% interval over {seeds} seeds"
