"""Stop requests: a run that is asked to stop writes a checkpoint first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from oodml.errors import OodmlError

_requested = threading.Event()


class StoppedError(OodmlError):
    """The run was asked to stop; its checkpoint is kept, and it resumes when started again."""


def request_stop() -> None:
    """Ask the run of this process to stop after the current step."""
    _requested.set()


def stop_requested() -> bool:
    """Whether a stop was requested."""
    return _requested.is_set()


@contextmanager
def stopping_on_signals(
    numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM request a stop; a second one ends the process at once.

    Python handles signals in the main thread only; in other threads nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop_requested():
            raise KeyboardInterrupt
        request_stop()

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _requested.clear()
