"""Linear algebra on one thread a task, tasks side by side: the same bits on any number of cores.

A product split over threads adds up in another order, so its last digits depend on their number.
Here every task keeps to one BLAS thread, and cores are filled with tasks that do not depend on
each other; reducing a covariance to its eigenvalues waits for memory more than it computes, so
this is also the quicker way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

from threadpoolctl import threadpool_limits

Given = TypeVar("Given")
Result = TypeVar("Result")

# A distance in 2,048 dimensions under way holds about 0.25 GiB.
MOST = 4


@dataclass(frozen=True)
class _Workers:
    executor: ThreadPoolExecutor
    count: int


_WORKERS: ContextVar[_Workers | None] = ContextVar("workers", default=None)


class Task(Generic[Result]):
    """A piece of work, under way where a worker is free, else done when its result is asked for."""

    def __init__(self, work: Callable[[], Result], future: Future[Result] | None) -> None:
        self._work = work
        self._future = future

    def result(self) -> Result:
        """What the work returns, or the error that it raises; to be asked for once."""
        if self._future is None:
            return self._work()
        try:
            return self._future.result()
        except CancelledError:
            return self._work()

    def cancel(self) -> None:
        """Spare the work if it has not begun; a result that is asked for anyway is still given."""
        if self._future is not None:
            self._future.cancel()


@contextmanager
def side_by_side(workers: int | None = None) -> Iterator[None]:
    """Within it BLAS uses one thread, and tasks run on `workers` threads (default: cores, to 4).

    What is within it already stays as it is. The limit holds for the whole process meanwhile.
    """
    if _WORKERS.get() is not None:
        yield
        return
    count = workers or min(MOST, len(os.sched_getaffinity(0)))
    executor = ThreadPoolExecutor(count)
    token = _WORKERS.set(_Workers(executor, count))
    with threadpool_limits(limits=1, user_api="blas"):
        try:
            yield
        finally:
            # Tasks that nobody waits for any more still need the limit until they end.
            executor.shutdown(cancel_futures=True)
            _WORKERS.reset(token)


def worker_count() -> int:
    """How many tasks run side by side here; 1 outside of `side_by_side`."""
    workers = _WORKERS.get()
    return 1 if workers is None else workers.count


def begin(work: Callable[[], Result]) -> Task[Result]:
    """`work` as a task; it starts at once within `side_by_side` with more than one worker."""
    workers = _WORKERS.get()
    if workers is None or workers.count == 1:
        return Task(work, None)
    return Task(work, workers.executor.submit(work))


def each(work: Callable[[Given], Result], given: Iterable[Given]) -> list[Result]:
    """`work` on each of `given`, in their order."""
    workers = _WORKERS.get()
    if workers is None:
        return [work(item) for item in given]
    return list(workers.executor.map(work, given))
