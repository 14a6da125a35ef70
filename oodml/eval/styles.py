"""How a method looks: one colour, marker and dash pattern in every chart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Dashes = Literal["-", "--", "-.", ":"]


@dataclass(frozen=True)
class LineStyle:
    """How one method looks in every chart: colour, marker and dashes."""

    color: str
    marker: str
    dashes: Dashes = "-"


# The colours of Okabe and Ito (jfly.uni-koeln.de/color), told apart with every colour vision,
# the two palest darkened for text on white.
_KNOWN = {
    "frozen": LineStyle("#555555", "o", "--"),
    "contrastive": LineStyle("#0072B2", "s"),
    "multi_similarity": LineStyle("#D55E00", "^"),
    "margin": LineStyle("#009E73", "D"),
    "arcface": LineStyle("#B65A98", "v"),
    "proxy_anchor": LineStyle("#C98A00", "p"),
}
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#B65A98", "#C98A00", "#3A9AD9", "#7A5195", "#8C564B")
_MARKERS = ("X", "P", "h", "<", ">", "*")
_DASHES: tuple[Dashes, ...] = ("-.", ":", "--")


def line_style(method: str) -> LineStyle:
    """The look of a method, the same in every chart and on every machine.

    The demo's six have their own; any other's follows from a hash of its name.
    """
    if method in _KNOWN:
        return _KNOWN[method]
    number = int.from_bytes(hashlib.sha256(method.encode()).digest()[:6], "big")
    number, color = divmod(number, len(_COLORS))
    number, marker = divmod(number, len(_MARKERS))
    return LineStyle(_COLORS[color], _MARKERS[marker], _DASHES[number % len(_DASHES)])
