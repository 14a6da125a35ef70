"""Progress bars: one line that is redrawn on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS = 10.0  # between two lines of a log
# The share of the last redraw in the rate, from which the time left follows. A redraw is 0.1 s or
# a batch, and with tqdm's own 0.3 the rate follows every hiccup of the last few.
SMOOTHING = 0.05


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm[Any]:
    """tqdm's bar with these options, on standard error.

    Where that is no terminal, a line is written at most every ten seconds, and none for work that
    is done before.
    """
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(items, **{"smoothing": SMOOTHING, **options})
    # With `miniters` the clock is read in every update: tqdm's own guess skips lines, or doubles
    # them, where the work becomes slower.
    log = {"file": _Lines(), "mininterval": SECONDS, "miniters": 1, "delay": SECONDS, "ascii": True}
    return tqdm(items, **options | log)


class _Lines:
    """A file for tqdm that writes each state of the bar as a line of its own."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()
