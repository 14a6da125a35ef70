"""Charts of the methods: scores, gains from few shots, and geometry against a metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oodml.errors import DataError
from oodml.eval.figures.curves import mark_start, plain
from oodml.eval.figures.line_labels import LINE, legend_below
from oodml.eval.figures.style import (
    GREY,
    INK,
    PUBLISHED,
    TEST,
    TRAIN,
    LineStyle,
    line_style,
    line_styles,
    new_figure,
    save_figure,
)
from oodml.eval.statistics.correlation import SIDES, Correlation
from oodml.eval.statistics.few_shot import FewShotRow
from oodml.eval.statistics.intervals import Estimate
from oodml.eval.statistics.scores import MethodScore, line_ends

_WIDTH, _BAR, _ROW, _PANEL = 4.4, 0.19, 0.36, 1.75  # inches
# Pooled correlations by their scope: colour, marker and height above the row's middle.
_OVER_RUNGS = {"pooled": (TEST, "s", 0.17), "within": (TRAIN, "o", -0.17)}


def plot_scores(
    scores: Sequence[MethodScore], path: str | Path, *, metric: str = "recall_at_1"
) -> None:
    """Write one bar a method with its 95% interval and value, as PNG, SVG or PDF.

    A method without a complete seed has no bar and says so. Equal scores give equal bytes.
    """
    if not scores:
        raise DataError("nothing to plot: no finished runs on the rungs of this ladder.")
    with save_figure(path, dpi=300) as save:
        save(_score_figure(scores, metric))


def plot_geometry(
    correlations: Sequence[Correlation],
    path: str | Path,
    *,
    metric: str = "recall_at_1",
    coefficient: str = "spearman",
) -> None:
    """Write one row a property: its correlation with the metric, as PNG, SVG or PDF.

    Small ticks are single rungs, pale for the easiest and dark for the hardest; squares pool the
    rungs, dots pool them after taking off each rung's means, both with 95% intervals. Correlations
    of several groups, a backbone or a method each, have a row of panels each.
    `coefficient` is "spearman" or "pearson". Equal correlations give equal bytes.
    """
    known = [each for each in correlations if getattr(each, coefficient) is not None]
    known.sort(key=lambda each: (each.property, each.side, each.scope))
    if not known:
        raise DataError(
            "nothing to plot: a correlation needs the geometry of at least three methods."
        )
    with save_figure(path, dpi=300) as save:
        save(_geometry_figure(known, metric, coefficient))


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
            "nothing to plot: no run has few-shot episodes; make some with few_shot='head'."
        )
    with save_figure(path, dpi=300) as save:
        figure = _few_shot_figure(known, metric, fid_label)
        for axes in figure.axes:
            mark_start(axes, start, start_name, at_top=True)
        save(figure)


def _score_figure(scores: Sequence[MethodScore], metric: str) -> Any:
    ranked = sorted(scores, key=lambda s: (s.mean is not None, s.mean or 0.0, s.series))
    height = 0.75 + _BAR * len(ranked)
    figure = new_figure(_WIDTH, height)
    axes = figure.subplots()
    for place, score in enumerate(ranked):
        _draw_bar(axes, place, score)
    axes.set_yticks(range(len(ranked)), [score.series.name for score in ranked], fontsize=7.5)
    for label, score in zip(axes.get_yticklabels(), ranked, strict=True):
        label.set_color(line_style(score.series.method).color)
    axes.set_xlabel(f"AGS: area under {metric.replace('_', ' ')} against scaled FID", loc="right")
    axes.set_title(_score_note(scores), loc="right", fontsize=7.5, color="#666666")
    axes.set_ylim(-0.6, len(ranked) - 0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(left=False)
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)
    _fit(figure, axes, height)
    return figure


def _draw_bar(axes: Any, place: int, score: MethodScore) -> None:
    if score.mean is None:
        axes.text(0, place, " no complete curve", va="center", fontsize=7, color=GREY)
        return
    pale = 0.4 if score.series.method.endswith(PUBLISHED) else 0.75
    axes.barh(
        place, score.mean, color=line_style(score.series.method).color, height=0.7, alpha=pale
    )
    words, edge = f"{score.mean:.3f}", score.mean
    if score.low is not None and score.high is not None:
        axes.plot([score.low, score.high], [place, place], color=INK, linewidth=1)
        words, edge = f"{words} ±{(score.high - score.low) / 2:.3f}", max(edge, score.high)
    axes.annotate(words, (edge, place), (3, 0), textcoords="offset points", va="center", fontsize=7)


def _fit(figure: Any, axes: Any, height: float) -> None:
    """Room for the longest name on the left and for the values on the right."""
    figure.subplots_adjust(top=1 - 0.25 / height, bottom=0.45 / height, left=0.3, right=0.97)
    labels, size = axes.get_yticklabels(), 7.5
    while (longest := _longest(labels)) > 0.55 and size > 4:
        size -= 0.25
        for label in labels:
            label.set_fontsize(size)
    figure.subplots_adjust(left=min(0.6, longest + 0.045))
    # Text keeps its width in inches while the axis grows under it: a few rounds settle it.
    for _ in range(4):
        to_data = axes.transData.inverted()
        edges = [to_data.transform(text.get_window_extent())[1, 0] for text in axes.texts]
        axes.set_xlim(min(0.0, axes.get_xlim()[0]), max([axes.get_xlim()[1], *edges]))


def _longest(labels: Sequence[Any]) -> float:
    """The width of the longest label, as a share of the page."""
    return max(
        float(label.get_window_extent().width / label.get_figure().bbox.width) for label in labels
    )


def _score_note(scores: Sequence[MethodScore]) -> str:
    counts = sorted({score.n for score in scores if score.n > 1})
    if not counts:
        return "one seed, no interval"
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean and 95% interval over {seeds} seeds of training; none for one seed"


def _geometry_figure(correlations: Sequence[Correlation], metric: str, coefficient: str) -> Any:
    names = sorted({each.property for each in correlations}, reverse=True)
    sides = [side for side in SIDES if any(each.side == side for each in correlations)]
    groups = sorted({each.group for each in correlations})
    title = LINE * any(groups)
    height = 0.72 + (0.33 + title + _ROW * len(names)) * len(groups)
    figure = new_figure(_WIDTH, height)
    panels = figure.subplots(len(groups), len(sides), sharex=True, sharey=True, squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        for axes, side in zip(row, sides, strict=True):
            for place, name in enumerate(names):
                key = group, name, side
                own = [c for c in correlations if (c.group, c.property, c.side) == key]
                _draw_rungs(axes, place, own, coefficient)
                _draw_over_rungs(axes, place, own, coefficient)
            _dress(axes, f"{side} embeddings", len(names))
        if group:
            row[0].set_title(f"{group}\n{sides[0]} embeddings", loc="left", fontsize=8)
    panels[0, 0].set_yticks(range(len(names)), [n.replace("_", " ") for n in names], fontsize=7.5)
    figure.subplots_adjust(
        left=0.29,
        right=0.98,
        top=1 - (0.22 + title) / height,
        bottom=0.72 / height,
        wspace=0.08,
        hspace=(0.25 + title) / (_ROW * len(names)),
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


def _few_shot_figure(rows: Sequence[FewShotRow], metric: str, fid_label: str) -> Any:
    from matplotlib.ticker import PercentFormatter

    shots = sorted({row.shots for row in rows})
    more = LINE * fid_label.count("\n")
    height = 0.65 + more + _PANEL * len(shots)
    figure = new_figure(_WIDTH, height)
    figure.subplots_adjust(
        left=0.165, right=0.97, top=1 - 0.22 / height, bottom=(0.43 + more) / height, hspace=0.2
    )
    panels = figure.subplots(len(shots), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    styles = line_styles(row.series for row in rows)
    for axes, number in zip(panels, shots, strict=True):
        axes.axhline(0, color=GREY, linewidth=0.8)
        for series, style in styles.items():
            own = [row for row in rows if (row.series, row.shots) == (series, number)]
            if own:
                _draw_gains(axes, sorted(own, key=lambda row: row.fid), style)
        plain(axes)
        axes.set_title(f"{number} shots", loc="left", fontsize=8)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.margins(x=0.03)
    panels[0].set_title(_few_shot_note(rows), loc="right", fontsize=7.5, color="#666666")
    panels[-1].set_xlabel(fid_label)
    figure.supylabel(f"relative gain in {metric.replace('_', ' ')}", fontsize=8.5, x=0.005)
    legend_below(figure, styles)
    return figure


def _draw_gains(axes: Any, own: Sequence[FewShotRow], style: LineStyle) -> None:
    x = np.array([row.fid for row in own])
    gains = [row.relative_gain or Estimate(np.nan) for row in own]
    y = np.array([gain.value for gain in gains])
    reaches = [0.0 if gain.high is None else gain.high - gain.value for gain in gains]
    axes.errorbar(
        x,
        y,
        yerr=reaches,
        linestyle="none",
        markersize=4,
        elinewidth=0.7,
        **style.markers,
    )
    if len(own) >= 3:
        ends = line_ends(x, y)
        line = {"color": style.color, "linestyle": style.linestyle, "linewidth": 1.0, "alpha": 0.8}
        axes.plot([x[0], x[-1]], ends, **line)


def _few_shot_note(rows: Sequence[FewShotRow]) -> str:
    counts = sorted({row.episodes for row in rows})
    if counts == [1]:
        return "one episode, no interval"
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean and 95% over {span} episodes"
