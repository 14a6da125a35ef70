"""Linear algebra on one thread a task, tasks side by side: the same bits on any number of cores.

A product split over threads adds up in another order, so its last digits depend on their number.
Here every task keeps to one BLAS thread, and cores are filled with tasks that do not depend on
each other; reducing a covariance to its eigenvalues waits for memory more than it computes, so
this is also the quicker way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import threadpoolctl

Given = TypeVar("Given")
Result = TypeVar("Result")

# A distance in 2,048 dimensions takes about 0.25 GiB while it is computed.
MOST = 4


@dataclass(frozen=True)
class _Workers:
    executor: ThreadPoolExecutor
    count: int


_WORKERS: ContextVar[_Workers | None] = ContextVar("workers", default=None)


@contextmanager
def side_by_side(workers: int | None = None) -> Iterator[None]:
    """Within it BLAS uses one thread, and tasks run on `workers` threads (default: cores, to 4).

    What is within it already stays as it is. The limit holds for the whole process meanwhile, and
    until the last of several threads that ask for it has left.
    """
    if _WORKERS.get() is not None:
        yield
        return
    count = workers or min(MOST, len(os.sched_getaffinity(0)))
    with _LIMIT.held(), ThreadPoolExecutor(count) as executor:
        token = _WORKERS.set(_Workers(executor, count))
        try:
            yield
        finally:
            _WORKERS.reset(token)


def worker_count() -> int:
    """How many tasks run side by side here; 1 outside of `side_by_side`."""
    workers = _WORKERS.get()
    return 1 if workers is None else workers.count


def each(work: Callable[[Given], Result], given: Iterable[Given]) -> list[Result]:
    """`work` on each of `given`, in their order."""
    workers = _WORKERS.get()
    if workers is None:
        return [work(item) for item in given]
    return list(workers.executor.map(work, given))


class _BlasLimit:
    """One BLAS thread while anybody needs it: the number belongs to the process, not to a thread.

    A limit for each of two threads would be lifted for both when the first leaves, and the second
    would put back the one thread that it found.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._holders = 0
        self._limits: threadpoolctl.threadpool_limits | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if self._holders == 0:
                _let_any_thread_set_the_number()
                self._limits = threadpoolctl.threadpool_limits(limits=1, user_api="blas")
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0 and self._limits is not None:
                    _let_any_thread_set_the_number()
                    self._limits.restore_original_limits()
                    _let_any_thread_set_the_number()


def _let_any_thread_set_the_number() -> None:
    """Since 3.8 threadpoolctl ignores, in silence, all threads but the first that set a number."""
    controller: Any = getattr(threadpoolctl, "OpenBLASController", None)
    if hasattr(controller, "clear_controlling_thread"):
        controller.clear_controlling_thread(force=True)


_LIMIT = _BlasLimit()
