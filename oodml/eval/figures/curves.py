"""Charts with matplotlib: a metric against the measured shift, one line a method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.eval.figures.line_labels import name_lines
from oodml.eval.figures.method_styles import PUBLISHED, LineStyle, line_style
from oodml.eval.figures.style import GREY, new_figure, save_figure

if TYPE_CHECKING:
    from oodml.eval.statistics.scores import SummaryRow

SIZE = (4.4, 3.1)  # inches: text of 8 points stays readable in a column of 3.3 inches
# More lines than this get a taller chart, thinner strokes and no bands, which would hide them.
MANY = 12


def plot_curves(
    rows: Sequence[SummaryRow],
    path: str | Path,
    *,
    metric: str = "recall_at_1",
    fid_label: str = "FID",
    published: Sequence[SummaryRow] = (),
    start: float | None = None,
    start_name: str = "start",
) -> None:
    """Write the metric against FID, one line a method with its 95% band, as PNG, SVG or PDF.

    `fid_label` must name the FID's level and backbone (`Ladder.fid_label()`). A line breaks at a
    rung where its method has no runs. Methods are named at the ends of their lines, or in a
    legend below when they do not fit. `published`, rows of published curves on the same axis, are
    drawn dotted with open markers. `start` marks the FID of the start
    (or default) split. Equal rows give equal bytes. Raises `UsageError` for another suffix,
    `DataError` if there are no rows.
    """
    if not rows and not published:
        raise DataError("nothing to plot: no finished runs on the rungs of this ladder.")
    with save_figure(path, dpi=300) as save:
        figure = _figure(rows, metric, fid_label, published)
        mark_start(figure.axes[0], start, start_name)
        save(figure)


def _figure(
    rows: Sequence[SummaryRow],
    metric: str,
    fid_label: str,
    published: Sequence[SummaryRow] = (),
) -> Any:
    many = len({row.method for row in rows}) > MANY
    figure = new_figure(SIZE[0], SIZE[1] * (1.3 if many else 1))
    axes = figure.subplots()
    ends: dict[str, tuple[float, float]] = {}
    for method, x, own in _lines(published):
        name = method + PUBLISHED
        _draw_published(axes, x, _values(own, "mean"), line_style(name))
        ends[name] = _end(x, own)
    for method, x, own in _lines(rows):
        _draw_line(axes, x, own, line_style(method), many)
        ends[method] = _end(x, own)
    _dress(axes, metric, fid_label, _note(rows, many, bool(published)))
    name_lines(figure, axes, ends)
    return figure


Cells = list["SummaryRow | None"]
Array = npt.NDArray[np.float64]


def _lines(rows: Sequence[SummaryRow]) -> list[tuple[str, Array, Cells]]:
    """Per method the places of all rungs, ascending, and its row on each, None for a gap."""
    places = {row.rung: row.fid for row in rows}
    rungs = sorted(places, key=lambda rung: places[rung])
    cells = {(row.method, row.rung): row for row in rows}
    x = np.array([places[rung] for rung in rungs], np.float64)
    return [
        (method, x, [cells.get((method, rung)) for rung in rungs])
        for method in sorted({row.method for row in rows})
    ]


def _end(x: Array, own: Cells) -> tuple[float, float]:
    place, row = [(at, row) for at, row in zip(x, own, strict=True) if row is not None][-1]
    return float(place), row.mean


def _values(own: Cells, name: str) -> Array:
    found = [None if row is None else getattr(row, name) for row in own]
    return np.array([np.nan if value is None else value for value in found], np.float64)


def _draw_published(axes: Any, x: Array, mean: Array, style: LineStyle) -> None:
    """A dotted line that breaks where a marker is hidden in the published figure."""
    axes.plot(
        x,
        mean,
        color=style.color,
        linestyle=":",
        linewidth=0.9,
        marker=style.marker,
        markersize=3.4,
        markerfacecolor="white",
        markeredgewidth=0.7,
    )


def _draw_line(axes: Any, x: Array, own: Cells, style: LineStyle, many: bool) -> None:
    if not many:
        low, high = _values(own, "low"), _values(own, "high")
        axes.fill_between(x, low, high, color=style.color, alpha=0.13, linewidth=0)
    axes.plot(
        x,
        _values(own, "mean"),
        color=style.color,
        linestyle=style.dashes,
        linewidth=0.9 if many else 1.3,
        marker=style.marker,
        markersize=3.2 if many else 4,
        markeredgecolor="white",
        markeredgewidth=0.5,
    )


def mark_start(axes: Any, start: float | None, name: str, *, at_top: bool = False) -> None:
    """A thin line where the start split stands, with its name at the bottom or the top."""
    if start is None:
        return
    axes.axvline(start, color=GREY, linewidth=0.7, linestyle=(0, (1, 1.5)), zorder=0)
    left, right = axes.get_xlim()
    near_left = (start - left) / ((right - left) or 1) < 0.5
    axes.annotate(
        name,
        (start, 1.0 if at_top else 0.0),
        (3 if near_left else -3, -3 if at_top else 3),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        ha="left" if near_left else "right",
        va="top" if at_top else "bottom",
        fontsize=7,
        color=GREY,
    )


def _dress(axes: Any, metric: str, fid_label: str, note: str) -> None:
    plain(axes)
    axes.set_xlabel(fid_label)
    axes.set_ylabel(metric.replace("_", " "))
    axes.set_title(note, loc="left", fontsize=7.5, color="#666666")
    axes.margins(x=0.02)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())


def plain(axes: Any) -> None:
    """Axes without a box, with pale lines across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)


def _note(rows: Sequence[SummaryRow], many: bool, published: bool) -> str:
    if not rows:
        return "read off the published figure"
    note = _interval_note(rows, many)
    return note + "; dotted: published" * published


def _interval_note(rows: Sequence[SummaryRow], many: bool) -> str:
    fewest, most = min(row.n for row in rows), max(row.n for row in rows)
    if most == 1:
        return "one seed, no interval"
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"mean over {seeds} seeds" if many else f"mean and 95% interval over {seeds} seeds"
