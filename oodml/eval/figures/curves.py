"""Charts against the measured shift: a metric, and the deviation from the mean of the methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError, UsageError
from oodml.eval.figures.line_labels import name_lines
from oodml.eval.figures.style import (
    GREY,
    INK,
    PUBLISHED,
    LineStyle,
    line_styles,
    new_figure,
    save_figure,
)
from oodml.eval.statistics.comparisons import Deviation, deviation_lines
from oodml.eval.statistics.published import PublishedStudy, published_names, published_study
from oodml.eval.statistics.series import Series

if TYPE_CHECKING:
    from oodml.eval.statistics.curves import SummaryRow
    from oodml.splits.ladder import Ladder

SIZE = (4.4, 3.1)  # inches: text of 8 points stays readable in a column of 3.3 inches
# Charts of more lines are taller, with thinner strokes and without bands, which would hide lines.
MANY = 12
Cells = list["SummaryRow | None"]
Array = npt.NDArray[np.float64]
Row = TypeVar("Row", bound=Any)
AXES = ("fid", "excess", "scaled")
# The published FIDs are printed with two digits and differ from the files' by up to 0.4.
_SAME_RUNG = 0.5


@dataclass(frozen=True)
class ShiftAxis:
    """The `places` of the rungs by number, the `label` of the axis, and where the start split lies.

    `start` is the place of the split that the walk started from, None if it is no rung.
    """

    label: str
    places: dict[int, float]
    start: float | None = None
    start_name: str = "start"

    def placed(self, rows: Sequence[Row]) -> list[Row]:
        """The rows (records with `rung` and `fid`) with the place of their rung as `fid`."""
        return [replace(row, fid=self.places[row.rung]) for row in rows]


def plot_curves(
    rows: Sequence[SummaryRow],
    path: str | Path,
    *,
    metric: str = "recall_at_1",
    fid_label: str = "FID",
    published: Sequence[SummaryRow] = (),
    start: float | None = None,
    start_name: str = "start",
    break_even: Mapping[Series, float] | None = None,
) -> None:
    """Write the metric against FID, one line a method with its 95% band, as PNG, SVG or PDF.

    `fid_label` must name the FID's level and backbone (`Ladder.fid_label()`). A line breaks at a
    rung where its method has no runs. Methods are named at the ends of their lines, or in a
    legend below when they do not fit. `published`, rows of published curves on the same axis, are
    drawn dotted with open markers. `start` marks the FID of the start
    (or default) split, `break_even` that of a line, by an upright tick on up to 12 lines. Equal
    rows give equal bytes. Raises `UsageError` for another suffix,
    `DataError` if there are no rows.
    """
    if not rows and not published:
        raise DataError("nothing to plot: no finished runs on the rungs of this ladder.")
    with save_figure(path, dpi=300) as save:
        figure = _curve_figure(rows, metric, fid_label, published, break_even)
        mark_start(figure.axes[0], start, start_name)
        save(figure)


def mark_start(axes: Any, start: float | None, name: str, *, at_top: bool = False) -> None:
    """Draw a thin line at the start split, with its name at the bottom or the top."""
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


def plain(axes: Any) -> None:
    """Axes without a box, with pale lines across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)


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
        figure = _deviation_figure(deviations, metric, fid_label)
        mark_start(figure.axes[0], start, start_name)
        save(figure)


def shift_axis(ladder: Ladder, x: str = "fid") -> ShiftAxis:
    """The axis of a ladder: `x` is "fid", "excess" (over random splits) or "scaled".

    Raises `DataError` if the ladder carries no excess.
    """
    if x not in AXES:
        raise UsageError(f"x axis {x!r}: allowed are {', '.join(AXES)}.")
    fids = {number: rung.fid for number, rung in enumerate(ladder.rungs)}
    label, places = ladder.fid_label(), fids
    if x == "excess":
        label = f"excess FID over random splits\n({ladder.settings.level} level, "
        label += f"{ladder.features.backbone})"
        places = {number: _excess(ladder, number) for number in fids}
    if x == "scaled":
        label, places = "FID, scaled to [0, 1] over the rungs of its own ladder", scaled(fids)
    start = _start_rung(ladder)
    name = "default split" if study_of(ladder) else "start"
    return ShiftAxis(label, places, None if start is None else places[start], name)


def study_axis(study: PublishedStudy, x: str = "fid") -> ShiftAxis:
    """The axis of the published curves, whose FIDs have no null and so no excess."""
    if x == "excess":
        raise UsageError("the published FIDs come without a null, so they have no excess.")
    places = dict(enumerate(study.fids))
    label = "FID (class level, ResNet-50, as published)"
    if x == "scaled":
        label, places = "FID, scaled to [0, 1] over the rungs of its own ladder", scaled(places)
    return ShiftAxis(label, places, places[study.default], "default split")


def scaled(fids: dict[int, float]) -> dict[int, float]:
    """FIDs by rung, scaled to [0, 1]; a single rung stands at 0."""
    low, high = min(fids.values()), max(fids.values())
    return {rung: (fid - low) / ((high - low) or 1.0) for rung, fid in fids.items()}


def study_of(ladder: Ladder) -> PublishedStudy | None:
    """The published study whose FIDs a ladder carries; None for measured or other ladders."""
    if ladder.measured:
        return None
    for name in published_names():
        study = published_study(name)
        if all(
            any(abs(rung.fid - fid) < _SAME_RUNG for fid in study.fids) for rung in ladder.rungs
        ):
            return study
    return None


def _curve_figure(
    rows: Sequence[SummaryRow],
    metric: str,
    fid_label: str,
    published: Sequence[SummaryRow] = (),
    break_even: Mapping[Series, float] | None = None,
) -> Any:
    many = len({row.series for row in rows}) > MANY
    figure = new_figure(SIZE[0], SIZE[1] * (1.3 if many else 1))
    axes = figure.subplots()
    theirs = [replace(row, series=Series(row.series.method + PUBLISHED)) for row in published]
    styles = line_styles(row.series for row in (*theirs, *rows))
    ends: dict[Series, tuple[float, float]] = {}
    for series, x, own in _lines(theirs):
        _draw_published(axes, x, _values(own, "mean"), styles[series])
        ends[series] = _end(x, own)
    for series, x, own in _lines(rows):
        _draw_line(axes, x, own, styles[series], many)
        ends[series] = _end(x, own)
    note = _curve_note(rows, many, bool(published))
    if break_even and not many and _mark_break_even(axes, rows, break_even):
        note += "\nupright tick: break-even of halves of the classes (--view transfer)"
    _label_axes(axes, metric, fid_label, note)
    name_lines(figure, axes, ends, styles)
    return figure


def _mark_break_even(axes: Any, rows: Sequence[SummaryRow], places: Mapping[Series, float]) -> bool:
    """An upright tick on every line at its place; whether there is one."""
    drawn = False
    for series, x, own in _lines(rows):
        mean = _values(own, "mean")
        known = np.isfinite(mean)
        place = places.get(series)
        if place is not None and x[known][0] <= place <= x[known][-1]:
            height = np.interp(place, x[known], mean[known])
            axes.plot([place], [height], "|", color=INK, markersize=11, markeredgewidth=1.3)
            drawn = True
    return drawn


def _lines(rows: Sequence[SummaryRow]) -> list[tuple[Series, Array, Cells]]:
    """Per series the places of all rungs, ascending, and its row on each, None for a gap."""
    places = {row.rung: row.fid for row in rows}
    rungs = sorted(places, key=lambda rung: places[rung])
    cells = {(row.series, row.rung): row for row in rows}
    x = np.array([places[rung] for rung in rungs], np.float64)
    return [
        (series, x, [cells.get((series, rung)) for rung in rungs])
        for series in sorted({row.series for row in rows})
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
        linestyle=style.linestyle,
        linewidth=0.9,
        markersize=3.4,
        **style.markers,
    )


def _draw_line(axes: Any, x: Array, own: Cells, style: LineStyle, many: bool) -> None:
    if not many:
        low, high = _values(own, "low"), _values(own, "high")
        axes.fill_between(x, low, high, color=style.color, alpha=0.13, linewidth=0)
    axes.plot(
        x,
        _values(own, "mean"),
        linestyle=style.linestyle,
        linewidth=0.9 if many else 1.3,
        markersize=3.2 if many else 4,
        **style.markers,
    )


def _label_axes(axes: Any, metric: str, fid_label: str, note: str) -> None:
    plain(axes)
    axes.set_xlabel(fid_label)
    axes.set_ylabel(metric.replace("_", " "))
    axes.set_title(note, loc="left", fontsize=7.5, color="#666666")
    axes.margins(x=0.02)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())


def _curve_note(rows: Sequence[SummaryRow], many: bool, published: bool) -> str:
    if not rows:
        return "read off the published figure"
    note = _interval_note(rows, many)
    return note + "; dotted: published" * published


def _interval_note(rows: Sequence[SummaryRow], many: bool) -> str:
    single = {row.series for row in rows if row.n == 1}
    counts = [row.n for row in rows if row.n > 1]
    if not counts:
        return "one seed, no interval"
    fewest, most = min(counts), max(counts)
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    if many:
        return f"mean over {'1 to ' * bool(single)}{most if single else seeds} seeds"
    note = f"mean and 95% interval over {seeds} seeds of training, not over classes"
    if single:
        others = {row.series.method for row in rows if row.series not in single}
        names = {each.name if each.method in others else each.method for each in single}
        note += f"\n{_listed(names, 45)}: one seed, no interval"
    return note


def _listed(names: Iterable[str], most: int) -> str:
    """The names in one line of at most so many characters, or how many there are."""
    listed = sorted(names)
    line = ", ".join(listed)
    return line if len(line) <= most else f"{len(listed)} lines"


def _deviation_figure(deviations: Sequence[Deviation], metric: str, fid_label: str) -> Any:
    from matplotlib.ticker import PercentFormatter

    styles = line_styles(each.series for each in deviations)
    many = len(styles) > MANY
    figure = new_figure(SIZE[0], SIZE[1] * (1.3 if many else 1))
    axes = figure.subplots()
    axes.axhline(0, color=GREY, linewidth=0.8)
    lines = {line.series: line for line in deviation_lines(deviations)}
    ends = {}
    for series, style in styles.items():
        own = sorted((d for d in deviations if d.series == series), key=lambda d: d.fid)
        _draw_markers(axes, own, style, many)
        ends[series] = (own[-1].fid, own[-1].deviation.value)
        if series in lines:
            line, places = lines[series], (own[0].fid, own[-1].fid)
            axes.plot(
                places,
                (line.easiest, line.hardest),
                color=style.color,
                linestyle=style.linestyle,
                linewidth=1.1,
            )
            ends[series] = (own[-1].fid, line.hardest)
    plain(axes)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.set_xlabel(fid_label)
    axes.set_ylabel(f"{metric.replace('_', ' ')} against the mean")
    axes.set_title(_deviation_note(deviations, many), loc="left", fontsize=7.5, color="#666666")
    axes.margins(x=0.02)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    name_lines(figure, axes, ends, styles, left=0.165)
    return figure


def _draw_markers(axes: Any, own: Sequence[Deviation], style: LineStyle, many: bool) -> None:
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
        markersize=3 if many else 4,
        elinewidth=0.7,
        alpha=0.85,
        **style.markers,
    )


def _deviation_note(deviations: Sequence[Deviation], many: bool) -> str:
    apart = {each.series.name for each in deviations if not each.in_mean}
    intervals = not many and any(each.deviation.low is not None for each in deviations)
    note = "line fitted to each method" + "; bars: 95% over seeds of training" * intervals
    return note + f"; not in the mean: {_listed(apart, 25)}" * bool(apart)


def _excess(ladder: Ladder, number: int) -> float:
    shift = ladder.rungs[number].shift
    if shift is None or shift.excess is None:
        raise DataError(
            f"rung {number} has no null to exceed; build the ladder with null=20, or "
            "give another x."
        )
    return shift.excess


def _start_rung(ladder: Ladder) -> int | None:
    """The rung that is the start split, or the default split of a published ladder."""
    study = study_of(ladder)
    if study is not None:
        fid = study.fids[study.default]
        near = [n for n, rung in enumerate(ladder.rungs) if abs(rung.fid - fid) < _SAME_RUNG]
        return near[0] if near else None
    if ladder.settings.start == "imported":
        return None
    kinds = [ladder.trajectory[step].kind for step in ladder.rung_steps]
    return kinds.index("start") if "start" in kinds else None
