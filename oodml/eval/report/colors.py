"""Colours of the charts on a dark page: the same hue, light enough to be seen."""

from __future__ import annotations

DARK_PAGE = "#14171c"
# WCAG 2.1 asks 3 for graphics; thin lines need a little more.
CONTRAST = 4.5


def on_dark(color: str, background: str = DARK_PAGE) -> str:
    """`color` (#rrggbb), mixed with as little white as gives it `CONTRAST` on `background`."""
    for part in range(0, 101, 5):
        mixed = _mixed(color, part / 100)
        if contrast(mixed, background) >= CONTRAST:
            return mixed
    return "#ffffff"


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21, as WCAG 2.1 defines it."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(color))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mixed(color: str, white: float) -> str:
    return "#" + "".join(f"{round(c + (255 - c) * white):02x}" for c in _channels(color))


def _channels(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue
