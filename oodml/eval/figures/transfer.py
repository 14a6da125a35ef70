"""Chart of what the shift costs: gains with their break-even, and what a fall is made of."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oodml.errors import DataError
from oodml.eval.figures.curves import MANY, plain
from oodml.eval.figures.falls import (
    draw_falls,
    explain_falls,
    name_rows,
    name_width,
    with_falls,
    write_falls,
)
from oodml.eval.figures.layout import (
    EDGE,
    WIDTH,
    axes_at,
    fit,
    key_at,
    new_page,
    text_at,
)
from oodml.eval.figures.style import GREY, INK, TEST, TRAIN, save_figure
from oodml.eval.statistics.transfer import MethodTransfer
from oodml.eval.statistics.transfer_findings import finding

# In inches: heights of panels and their titles, of a row, and of a line of 8 and of 7.5 points.
_PANEL, _LOW, _SINGLE, _TITLE = 1.05, 0.85, 2.0, 0.33
_ROW, _MANY_ROW, _LINE, _KEY = 0.215, 0.142, 0.155, 0.14
_SMALL, _TEXT = 7.5, 8.5  # points
_SHIFTED: dict[str, Any] = {
    "color": TEST, "marker": "o", "markersize": 3.6, "linewidth": 1.4,
    "markeredgecolor": "white", "markeredgewidth": 0.4,
}  # fmt: skip
_MATCHED: dict[str, Any] = {
    "color": TRAIN, "marker": "s", "markersize": 3.4, "linewidth": 1.1, "linestyle": (0, (4, 1.5)),
    "markerfacecolor": "white", "markeredgewidth": 0.8,
}  # fmt: skip
_MET: dict[str, Any] = {
    "color": INK, "marker": "D", "markersize": 4.6, "markeredgecolor": "white",
    "markeredgewidth": 0.4,
}  # fmt: skip
Array = npt.NDArray[np.float64]


def plot_transfer(
    found: Sequence[MethodTransfer],
    path: str | Path,
    *,
    metric: str = "recall_at_1",
    fid_label: str = "FID",
    places: Mapping[int, float] | None = None,
) -> None:
    """Write what the shift costs every method, as PNG, SVG or PDF.

    Above, a panel a method: its gain over the untrained network against FID, trained on the rung's
    training classes (shifted) and on classes of the test side (matched), with the break-even.
    Below, a bar a method: its fall along the ladder, divided into difficulty and shift. More than
    12 methods get a row each, with the fall and the break-even. `places` are those of the rungs on
    an axis other than FID, by number. Equal values give equal bytes. Raises `DataError` if there
    is nothing to draw, `UsageError` for another suffix.
    """
    if not found:
        raise DataError("nothing to plot: no reference runs on the rungs of this ladder.")
    with save_figure(path, dpi=300) as save:
        save(_figure(found, metric, fid_label, places))


def transfer_caption(found: Sequence[MethodTransfer], metric: str = "recall_at_1") -> str:
    """What the chart shows, for a reader who has never heard of it."""
    words, many = _words(metric), len(found) > MANY
    tested = (
        "Networks are tested on classes at a growing distance (FID) from the training classes. At "
        "every distance the same classes are tested, and only the training differs: shifted was "
        "trained on the training classes, matched on as many other classes of the test side, so "
        "without shift."
    )
    gains = (
        f"Lines: by how much each is better than the untrained network, in {words}. Their gap is "
        "what the shift costs. Diamond: the break-even; beyond it, the network trained with shift "
        "is worse than the untrained one."
    )
    falls = (
        f"Bars: what shifted loses in {words} from the first distance to the last. Difficulty is "
        "what matched loses too, because the classes are harder to tell apart; shift is the rest."
    )
    pays = (
        "Diamonds: the break-even; beyond it, the network trained with shift is worse than the "
        "untrained one."
    )
    return " ".join([tested, *((falls, pays) if many else (gains, falls)), _intervals(found)])


def _figure(
    found: Sequence[MethodTransfer], metric: str, fid_label: str, places: Mapping[int, float] | None
) -> Any:
    headline, falls = finding(found), f"What shifted loses in {_words(metric)}, {_ends(found)}"
    placed = sorted(_placed(found, places), key=_rank)
    draw = _figure_of_rows if len(placed) > MANY else _figure_of_panels
    return draw(placed, textwrap.wrap(headline, 64), falls, _words(metric), fid_label)


def _placed(
    found: Sequence[MethodTransfer], places: Mapping[int, float] | None
) -> list[MethodTransfer]:
    if places is None:
        return list(found)
    return [
        replace(each, rows=tuple(replace(row, fid=places[row.rung]) for row in each.rows))
        for each in found
    ]


def _rank(each: MethodTransfer) -> tuple[Any, ...]:
    """The longest-paying method first, those whose gain is not known last."""
    met, last = each.break_even, each.rows[-1].shift_cost
    place = met.on(each.fids)[0] if met else None
    kind = ("beyond", "within", "before").index(met.kind) if met else 3
    return kind, -(place or 0.0), last.value if last else 0.0, each.series


# A panel a method


def _figure_of_panels(
    found: Sequence[MethodTransfer], headline: list[str], loss: str, words: str, fid_label: str
) -> Any:
    gains, falls = [each for each in found if each.break_even], with_falls(found)
    # Names of methods and models need wider panels.
    several = any(each.series.among_several for each in gains)
    columns = min(2 if several or len(gains) in (2, 4) else 3, len(gains))
    lines = -(-len(gains) // (columns or 1))
    panel = _SINGLE if columns == 1 else _PANEL if lines <= 2 else _LOW
    first = 0.12 + 0.16 * len(headline)
    panels = first + 0.22 + 3 * _KEY
    under = panels + lines * (panel + _TITLE) + 0.24
    second = under + _LINE * (2 + fid_label.count("\n")) if gains else first
    bars = second + 0.37
    end = bars + _ROW * len(falls) + 0.26 if falls else second
    figure = new_page(end + 0.17)
    text_at(figure, EDGE, 0.08, "\n".join(headline), _TEXT, weight="bold")
    if gains:
        text_at(figure, EDGE, first, f"Gain in {words} over the untrained network", _TEXT)
        _explain_gains(figure, first + 0.2)
        _draw_panels(figure, gains, panels, columns, panel)
        text_at(figure, (0.46 + WIDTH) / 2, under, fid_label, 8, ha="center", linespacing=1.25)
    if falls:
        text_at(figure, EDGE, second, loss, _TEXT)
        explain_falls(figure, second + 0.18)
        left = name_width(figure, falls, _SMALL)
        room = WIDTH - left - 0.15
        axes = axes_at(figure, left, bars, room, _ROW * len(falls))
        draw_falls(axes, falls)
        name_rows(axes, falls, left, room, _SMALL)
        write_falls(axes, falls, room)
    text_at(figure, EDGE, end, _intervals(found), 7, color=GREY)
    return figure


def _explain_gains(figure: Any, top: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shifted, matched = (Line2D([], [], **look) for look in (_SHIFTED, _MATCHED))
    gap, met = Patch(facecolor=TEST, alpha=0.2), Line2D([], [], linewidth=2.4, **_MET)
    for line, left, handle, words in (
        (0, 0.0, shifted, "shifted: trained on the rung's training classes"),
        (1, 0.0, matched, "matched: trained on as many classes of the test side"),
        (2, 0.0, gap, "gap: what the shift costs"),
        (2, 2.3, met, "break-even"),
    ):
        key_at(figure, EDGE + left, top + _KEY * line, handle, words, _SMALL)


def _draw_panels(
    figure: Any, gains: Sequence[MethodTransfer], top: float, columns: int, panel: float
) -> None:
    left, gap = 0.46, 0.12
    width = (WIDTH - left - 0.12 - gap * (columns - 1)) / columns
    first = None
    for number, each in enumerate(gains):
        line, column = divmod(number, columns)
        above = top + line * (panel + _TITLE) + _TITLE
        axes = axes_at(figure, left + column * (width + gap), above, width, panel, like=first)
        first = first or axes
        _draw_gains(axes, each)
        for words, up, size, color in (
            (each.series.name, 0.17, 8.0, INK), (_break_even_words(each), 0.04, 7.0, "#555555"),
        ):  # fmt: skip
            text = axes.text(0, 1 + up / panel, words, size=size, c=color, transform=axes.transAxes)
            fit(text, width)
        lowest, leftmost = number + columns >= len(gains), column == 0
        axes.tick_params(
            labelbottom=lowest, bottom=lowest, labelleft=leftmost, left=leftmost, labelsize=_SMALL
        )
    if first is not None:
        first.margins(x=0.05, y=0.07)
        first.yaxis.set_major_formatter(lambda value, _: f"{value:+.2g}" if value else "0")
        first.locator_params(nbins=4)


def _draw_gains(axes: Any, each: MethodTransfer) -> None:
    x = np.array(each.fids)
    shifted, matched = _column(each, "gain"), _column(each, "matched_gain")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.fill_between(x, shifted[0], matched[0], color=TEST, alpha=0.2, linewidth=0)
    for (mean, low, high), look in ((matched, _MATCHED), (shifted, _SHIFTED)):
        axes.vlines(x, low, high, color=look["color"], linewidth=0.8)
        axes.plot(x, mean, **look)
    _draw_break_even(axes, each, 0.0, 4.6)
    plain(axes)


def _draw_break_even(axes: Any, each: MethodTransfer, height: float, size: float) -> None:
    """A diamond on its interval; a triangle at that end of the ladder beyond which it lies."""
    if each.break_even is None:
        return
    value, low, high = each.break_even.on(each.fids)
    first, last = each.fids[0], each.fids[-1]
    if len(each.seeds) > 1:
        ends = [first if low is None else low, last if high is None else high]
        axes.plot(
            ends, [height] * 2, color=INK, linewidth=size / 1.9, solid_capstyle="butt", zorder=4
        )
    at, marker = {"within": (value, "D"), "beyond": (last, ">"), "before": (first, "<")}[
        each.break_even.kind
    ]
    axes.plot(
        [at], [height], **{**_MET, "marker": marker, "markersize": size}, zorder=5, clip_on=False
    )


# A row a method


def _figure_of_rows(
    found: Sequence[MethodTransfer], headline: list[str], loss: str, words: str, fid_label: str
) -> Any:
    first = 0.14 + 0.16 * len(headline)
    top, height = first + 0.72, _MANY_ROW * len(found)
    under = top + height + 0.24
    end = under + _LINE * (1 + fid_label.count("\n"))
    figure = new_page(end + 0.17)
    left = name_width(figure, found, 7.0)
    room = (WIDTH - left - 0.32) / 2
    right = left + room + 0.2
    text_at(figure, EDGE, 0.08, "\n".join(headline), _TEXT, weight="bold")
    text_at(figure, EDGE, first, f"Bars: {loss[0].lower()}{loss[1:]}", 8)
    explain_falls(figure, first + 0.17)
    text_at(
        figure, EDGE, first + 0.34, "Diamonds: break-even, the FID up to which training pays", 8
    )
    bars, met = (axes_at(figure, at, top, room, height) for at in (left, right))
    draw_falls(bars, found)
    for place, each in enumerate(found):
        _draw_break_even(met, each, place, 3.4)
        if each.break_even is None:
            met.text(each.fids[0], place, "not known", va="center", fontsize=6.5, color=GREY)
    met.set_xlim(*_reach([fid for each in found for fid in each.fids]))
    for axes in (bars, met):
        axes.tick_params(top=True, labeltop=True)
        name_rows(axes, found if axes is bars else [], left, room, 7)
        for place in range(0, len(found), 2):
            axes.axhspan(place - 0.5, place + 0.5, color="#F3F3F3", linewidth=0, zorder=-2)
        axes.set_ylim(len(found) - 0.4, -0.6)
    text_at(figure, WIDTH - EDGE, under, fid_label, 8, ha="right", linespacing=1.25)
    text_at(figure, EDGE, end, _intervals(found), 7, color=GREY)
    return figure


# Words and places


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _ends(found: Sequence[MethodTransfer]) -> str:
    ends = {(each.fids[0], each.fids[-1]) for each in found}
    if len(ends) > 1:
        return "first to last rung"
    first, last = ends.pop()
    digits = _digits(first, last)
    return f"FID {first:.{digits}f} to {last:.{digits}f}"


def _digits(first: float, last: float) -> int:
    return 0 if last - first >= 50 else 1 if last - first >= 5 else 2


def _reach(fids: Sequence[float]) -> tuple[float, float]:
    margin = 0.04 * ((max(fids) - min(fids)) or 1.0)
    return min(fids) - margin, max(fids) + margin


def _intervals(found: Sequence[MethodTransfer]) -> str:
    counts = sorted({len(each.seeds) for each in found})
    if counts == [1]:
        return "One seed, no intervals."
    seeds = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    return f"Thin lines, and that of the break-even: 95% intervals over {seeds} seeds."


def _break_even_words(each: MethodTransfer) -> str:
    if each.break_even is None:
        return ""
    first, last = each.fids[0], each.fids[-1]
    digits = _digits(first, last)
    before, beyond = f"<{first:.{digits}f}", f">{last:.{digits}f}"
    value, low, high = (
        None if at is None else f"{at:.{digits}f}" for at in each.break_even.on(each.fids)
    )
    shown = {"within": value, "before": before, "beyond": beyond}[each.break_even.kind]
    if len(each.seeds) == 1:
        return f"◆ {shown}"
    return f"◆ {shown} [{low or before}, {high or beyond}]"


def _column(each: MethodTransfer, name: str) -> tuple[Array, Array, Array]:
    """Value, low and high on every rung, NaN where they are not known."""
    parts = [
        [getattr(getattr(row, name), part, None) for row in each.rows]
        for part in ("value", "low", "high")
    ]
    value, low, high = np.array(parts, np.float64)
    return value, low, high
