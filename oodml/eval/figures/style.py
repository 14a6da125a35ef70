"""What all charts share: how a line looks, sizes, and files of equal bytes for equal data."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from oodml.errors import UsageError
from oodml.eval.statistics.series import Series
from oodml.files import atomic_write

# Blue and vermilion of Okabe and Ito, distinct for every colour vision.
TRAIN, TEST, REMOVED, GREY = "#0072B2", "#D55E00", "#E3E3E3", "#777777"
INK = "#333333"
_SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": "#888888",
    "axes.formatter.useoffset": False,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "font.size": 8.5,
    "hatch.linewidth": 0.4,
    "svg.hashsalt": "oodml",
    "text.parse_math": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
# No dates and no versions: equal data give equal files.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
# A name of matplotlib's, or lengths of dashes and gaps in widths of the line.
Dashes = Literal["-", "--", "-.", ":", ""] | tuple[float, ...]
PUBLISHED = " (published)"


@dataclass(frozen=True)
class LineStyle:
    """How one line looks: colour, marker and dashes; `pale` is the share of white in the marker."""

    color: str
    marker: str
    dashes: Dashes = "-"
    pale: float = 0.0

    @property
    def markers(self) -> dict[str, Any]:
        """Colour and marker as matplotlib's arguments."""
        return {
            "color": self.color,
            "marker": self.marker,
            "markerfacecolor": _mixed(self.color, self.pale),
            "markeredgecolor": self.color if self.pale else "white",
            "markeredgewidth": 0.7 if self.pale else 0.5,
        }

    @property
    def linestyle(self) -> Any:
        """The dashes in matplotlib's form."""
        return self.dashes if isinstance(self.dashes, str) else (0, self.dashes)


# The colours of Okabe and Ito (jfly.uni-koeln.de/color), distinct for every colour vision,
# the two palest darkened for text on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#B65A98", "#C98A00", "#3A9AD9", "#7A5195", "#8C564B")
_MARKERS = ("X", "P", "h", "<", ">", "*", "s", "^", "D", "v", "p", "o", "8", "d")
# Dotted lines are reserved for published curves.
_DASHES: tuple[Dashes, ...] = ("-.", "--")
# Dashes and paleness of the models in a chart of several, in order of name.
_MODELS: tuple[tuple[Dashes, float], ...] = (
    ("-", 0.0), ("--", 1.0), ("-.", 0.55), ((7.0, 2.0), 0.0), ((5.0, 1.5, 1.0, 1.5, 1.0, 1.5), 1.0),
    ((2.0, 1.0), 0.55),
)  # fmt: skip
# The methods that share a chart most often: the demo's and the published study's.
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
DARK_PAGE = "#14171c"
# WCAG 2.1 asks 3 for graphics; thin lines need a little more.
CONTRAST = 4.5


def new_figure(width: float, height: float) -> Any:
    """An empty figure of this size in inches, outside matplotlib's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


@contextmanager
def save_figure(path: str | Path, dpi: int = 200) -> Iterator[Callable[[Any], None]]:
    """A block in oodml's chart style that yields the function to save its figure with.

    A PNG gets a palette of 256 colours, which a chart hardly fills and a page loads quickly.
    Raises `UsageError` for a name that does not end in .png, .svg or .pdf.
    """
    from matplotlib import rc_context

    suffix = Path(path).suffix.lower()
    if suffix not in _METADATA:
        raise UsageError(f"{path} is no chart. Its name must end in .png, .svg or .pdf.")

    def save(figure: Any) -> None:
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix[1:], dpi=dpi, metadata=_METADATA[suffix])
        with atomic_write(path) as file:
            if suffix == ".png":
                few = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
                few.save(file, "PNG", optimize=True, dpi=(dpi, dpi))
            else:
                file.write(drawn.getvalue())

    with rc_context(_SETTINGS):
        yield save


def line_style(method: str) -> LineStyle:
    """The look of a method, the same in every chart and on every machine.

    A label that goes on after the method's name, `margin(beta=0.9)` or `margin +flip`, keeps its
    colour and has a marker of its own; a published curve keeps colour and marker and is dotted. A
    method that is not listed here gets its look from a hash of its name.
    """
    if method.endswith(PUBLISHED):
        return replace(line_style(method.removesuffix(PUBLISHED)), dashes=":", pale=1.0)
    name = re.split(r"[( ]", method, maxsplit=1)[0]
    look = _of_name(name)
    if name == method:
        return look
    marker, dashes = _hashed(method, len(_MARKERS), len(_DASHES))
    return replace(look, marker=_MARKERS[marker], dashes=_DASHES[dashes])


def line_styles(series: Iterable[Series]) -> dict[Series, LineStyle]:
    """The look of every line of one chart.

    Colour and marker are those of the method (see `line_style`) and, where the chart has several
    models, dashes and the fill of the markers those of the model.
    """
    shown = sorted(set(series))
    models = sorted({each.backbone for each in shown if each.among_several})
    styles = {each: line_style(each.method) for each in shown}
    for each in shown:
        if each.among_several:
            dashes, pale = _MODELS[models.index(each.backbone) % len(_MODELS)]
            styles[each] = replace(styles[each], dashes=dashes, pale=pale)
    return styles


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
