"""What all charts share: sizes, colours, and files of equal bytes for equal data."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from oodml.errors import UsageError
from oodml.files import atomic_write

# Blue and vermilion of Okabe and Ito, told apart with every colour vision.
TRAIN, TEST, REMOVED, GREY = "#0072B2", "#D55E00", "#E3E3E3", "#777777"
INK = "#333333"
_SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": "#888888",
    "axes.formatter.useoffset": False,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "font.size": 8.5,
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
