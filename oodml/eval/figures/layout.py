"""Charts laid out in inches from the top left corner of a page of one width."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from oodml.eval.figures.style import new_figure

# Text of 7.5 points on a page of this width stays readable in a column of 3.5 inches.
WIDTH, EDGE = 4.4, 0.06


def new_page(height: float) -> Any:
    """An empty figure of the page's width."""
    return new_figure(WIDTH, height)


def axes_at(
    figure: Any, left: float, top: float, width: float, height: float, like: Any = None
) -> Any:
    """Axes in this place, which share both scales with those that they are `like`."""
    page = figure.get_figheight()
    box = (left / WIDTH, 1 - (top + height) / page, width / WIDTH, height / page)
    return figure.add_axes(box, sharex=like, sharey=like)


def text_at(figure: Any, left: float, top: float, words: str, size: float, **look: Any) -> None:
    """Text that begins in this place, shrunk where it is wider than the page."""
    place = left / WIDTH, 1 - top / figure.get_figheight()
    fit(figure.text(*place, words, fontsize=size, va="top", **look), WIDTH - 2 * EDGE)


def key_at(figure: Any, left: float, top: float, handle: Any, words: str, size: float) -> None:
    """One entry of a legend in this place."""
    figure.legend(
        handles=[handle],
        labels=[words],
        loc="upper left",
        bbox_to_anchor=(left / WIDTH, 1 - top / figure.get_figheight()),
        fontsize=size,
        frameon=False,
        borderaxespad=0,
        borderpad=0,
        handlelength=2.2,
    )


def longest(figure: Any, names: Iterable[str], size: float) -> float:
    """The width of the longest name."""
    widths = [0.0]
    for name in names:
        text = figure.text(0, 0, name, fontsize=size)
        widths.append(_length(text))
        text.remove()
    return max(widths)


def fit(text: Any, width: float) -> None:
    """Shrink a text to its room, to 6 points at least, and shorten it in the middle after that."""
    text.set_fontsize(max(6.0, text.get_fontsize() * min(1.0, width / _length(text))))
    words = text.get_text()
    while _length(text) > width and len(words) > 8:
        words = words[: len(words) // 2 - 1] + words[len(words) // 2 + 1 :]
        text.set_text(f"{words[: len(words) // 2]}…{words[len(words) // 2 :]}")


def _length(text: Any) -> float:
    return float(text.get_window_extent().width / text.get_figure().dpi)
