"""Chart of the aggregated generalization scores, one bar a method, best on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oodml.errors import DataError
from oodml.eval.figures.method_styles import PUBLISHED, line_style
from oodml.eval.figures.style import GREY, INK, new_figure, save_figure
from oodml.eval.statistics.scores import MethodScore

_WIDTH, _BAR = 4.4, 0.19  # inches


def plot_scores(
    scores: Sequence[MethodScore], path: str | Path, *, metric: str = "recall_at_1"
) -> None:
    """Write one bar a method with its 95% interval and value, as PNG, SVG or PDF.

    A method without a complete seed has no bar and says so. Equal scores give equal bytes.
    """
    if not scores:
        raise DataError("nothing to plot: no finished runs on the rungs of this ladder.")
    with save_figure(path, dpi=300) as save:
        save(_figure(scores, metric))


def _figure(scores: Sequence[MethodScore], metric: str) -> Any:
    ranked = sorted(scores, key=lambda s: (s.mean is not None, s.mean or 0.0, s.method))
    height = 0.75 + _BAR * len(ranked)
    figure = new_figure(_WIDTH, height)
    axes = figure.subplots()
    for place, score in enumerate(ranked):
        _draw_bar(axes, place, score)
    axes.set_yticks(range(len(ranked)), [score.method for score in ranked], fontsize=7.5)
    for label, score in zip(axes.get_yticklabels(), ranked, strict=True):
        label.set_color(line_style(score.method).color)
    axes.set_xlabel(f"AGS: area under {metric.replace('_', ' ')} against scaled FID", loc="right")
    axes.set_title(_note(scores), loc="right", fontsize=7.5, color="#666666")
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
    pale = 0.4 if score.method.endswith(PUBLISHED) else 0.75
    axes.barh(place, score.mean, color=line_style(score.method).color, height=0.7, alpha=pale)
    words, edge = f"{score.mean:.3f}", score.mean
    if score.low is not None and score.high is not None:
        axes.plot([score.low, score.high], [place, place], color=INK, linewidth=1)
        words, edge = f"{words} ±{(score.high - score.low) / 2:.3f}", max(edge, score.high)
    axes.annotate(words, (edge, place), (3, 0), textcoords="offset points", va="center", fontsize=7)


def _fit(figure: Any, axes: Any, height: float) -> None:
    """Room for the longest name on the left and for the values on the right."""
    figure.subplots_adjust(top=1 - 0.25 / height, bottom=0.45 / height, left=0.3, right=0.97)
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    left = min(0.6, max(box.width for box in boxes) / figure.bbox.width + 0.045)
    figure.subplots_adjust(left=left)
    # Text keeps its width in inches while the axis grows under it: a few rounds settle it.
    for _ in range(4):
        to_data = axes.transData.inverted()
        edges = [to_data.transform(text.get_window_extent())[1, 0] for text in axes.texts]
        axes.set_xlim(min(0.0, axes.get_xlim()[0]), max([axes.get_xlim()[1], *edges]))


def _note(scores: Sequence[MethodScore]) -> str:
    counts = sorted({score.n for score in scores if score.n})
    if not counts or counts == [1]:
        return "one seed, no interval"
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean and 95% interval over {seeds} seeds, rungs kept"
