"""Desks: what every worker of this machine is at, in memory that outlives the worker."""

from __future__ import annotations

import time
from multiprocessing.context import BaseContext
from typing import Any

_ID_BYTES = 32


class Desk:
    """One worker's place: the run that it does and since when, and how many it has ended.

    It lies in shared memory without a lock: only the worker writes, and a kill cannot leave it
    locked. `time.monotonic` is one clock for all processes of a machine.
    """

    def __init__(self, context: BaseContext) -> None:
        self._run: Any = context.RawArray("c", _ID_BYTES)
        self._since: Any = context.RawValue("d", 0.0)
        self._ended: Any = context.RawValue("q", 0)

    def begin(self, run_id: str) -> None:
        """Note the run that the worker does now."""
        self._since.value = time.monotonic()
        self._run.value = run_id.encode()

    def end(self) -> None:
        """Note that the run has ended, with or without a result."""
        self._run.value = b""
        self._ended.value += 1

    @property
    def run_id(self) -> str:
        """The id of the run under way, or "" between two runs."""
        return str(self._run.value.decode())

    @property
    def seconds(self) -> float:
        """How long the run under way has taken; 0 between two runs."""
        return time.monotonic() - self._since.value if self.run_id else 0.0

    @property
    def ended(self) -> int:
        """How many runs the worker has ended."""
        return int(self._ended.value)
