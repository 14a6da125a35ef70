"""How a method looks: one colour, marker and dash pattern in every chart."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Literal

Dashes = Literal["-", "--", "-.", ":"]
PUBLISHED = " (published)"


@dataclass(frozen=True)
class LineStyle:
    """How one method looks in every chart: colour, marker and dashes."""

    color: str
    marker: str
    dashes: Dashes = "-"


# The colours of Okabe and Ito (jfly.uni-koeln.de/color), told apart with every colour vision,
# the two palest darkened for text on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#B65A98", "#C98A00", "#3A9AD9", "#7A5195", "#8C564B")
_MARKERS = ("X", "P", "h", "<", ">", "*", "s", "^", "D", "v", "p", "o", "8", "d")
# Dots are kept for published curves.
_DASHES: tuple[Dashes, ...] = ("-.", "--")
# Those that charts show together most often: the demo's and the published study's.
_KNOWN = {
    "frozen": LineStyle("#555555", "o", "--"),
    "contrastive": LineStyle("#0072B2", "s"),
    "multi_similarity": LineStyle("#D55E00", "^"),
    "margin": LineStyle("#009E73", "D"),
    "arcface": LineStyle("#B65A98", "v"),
    "proxy_anchor": LineStyle("#C98A00", "p"),
    "s2sd": LineStyle("#7A5195", "X"),
    "diva": LineStyle("#3A9AD9", "P"),
    "r_margin": LineStyle("#8C564B", "h"),
    "uniform_prior": LineStyle("#4D6A00", "*"),
}
# The others in an order that never changes, so that no two of them look alike: append only.
_LISTED = (
    "triplet", "easy_positive", "lifted_structure", "generalized_lifted_structure", "n_pair",
    "angular", "circle", "fast_ap", "smooth_ap", "sup_con", "nt_xent", "snr_contrastive",
    "histogram", "tuplet_margin", "ranked_list", "instance", "intra_pair_variance", "p2s_grad",
    "pnp", "threshold_consistent_margin", "normalized_softmax", "sphereface", "cosface",
    "soft_triple", "sub_center_arcface", "large_margin_softmax", "dynamic_soft_margin", "manifold",
    "proxy_nca", "proxy_nca_pp", "proxy_gml", "neighbourhood_components", "pca_whitening", "lda",
    "nca", "xbm", "moco", "group_loss", "group_loss_pp", "mpn", "ensemble", "bier",
    "divide_and_conquer", "hierarchical_divide_and_conquer", "mic", "sharing", "daml", "hdml",
    "pads",
)  # fmt: skip


def line_style(method: str) -> LineStyle:
    """The look of a method, the same in every chart and on every machine.

    A label that goes on after the method's name, `margin(beta=0.9)` or `margin +flip`, keeps its
    colour and has a marker of its own; a published curve keeps colour and marker and is dotted. A
    method that is not listed here gets its look from a hash of its name.
    """
    if method.endswith(PUBLISHED):
        return replace(line_style(method.removesuffix(PUBLISHED)), dashes=":")
    name = re.split(r"[( ]", method, maxsplit=1)[0]
    look = _of_name(name)
    if name == method:
        return look
    marker, dashes = _hashed(method, len(_MARKERS), len(_DASHES))
    return replace(look, marker=_MARKERS[marker], dashes=_DASHES[dashes])


def _of_name(name: str) -> LineStyle:
    if name in _KNOWN:
        return _KNOWN[name]
    if name in _LISTED:
        block, color = divmod(_LISTED.index(name), len(_COLORS))
        return LineStyle(_COLORS[color], _MARKERS[block], _DASHES[block % 2])
    color, marker, dashes = _hashed(name, len(_COLORS), len(_MARKERS), len(_DASHES))
    return LineStyle(_COLORS[color], _MARKERS[marker], _DASHES[dashes])


def _hashed(name: str, *sizes: int) -> list[int]:
    """One number below each of the sizes, from a hash of the name."""
    number = int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:8], "big")
    found = []
    for size in sizes:
        number, digit = divmod(number, size)
        found.append(digit)
    return found
