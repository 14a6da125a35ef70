"""Work on several threads: linear algebra whose bits do not depend on their number, and files.

A matrix product that BLAS divides among threads adds up in another order, so its last digits depend
on their number. Within `side_by_side` every task keeps to one BLAS thread, and the cores are filled
with independent tasks. This is also faster: reducing a covariance to its eigenvalues waits for
memory more than it computes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
    """A context in which BLAS uses one thread and `each` runs tasks on `workers` threads.

    By default as many as there are cores, at most 4. A nested call changes nothing. The BLAS limit
    holds for the whole process; if several threads ask for it, until the last of them has left.
    """
    if _WORKERS.get() is not None:
        yield
        return
    count = workers or min(MOST, cores())
    with _LIMIT.held(), ThreadPoolExecutor(count) as executor:
        token = _WORKERS.set(_Workers(executor, count))
        try:
            yield
        finally:
            _WORKERS.reset(token)


def each(work: Callable[[Given], Result], given: Iterable[Given]) -> list[Result]:
    """The results of `work` on each of `given`, in their order, on the workers of the context."""
    workers = _WORKERS.get()
    if workers is None:
        return [work(item) for item in given]
    return list(workers.executor.map(work, given))


def each_ahead(work: Callable[[Given], object], given: Iterable[Given]) -> Iterator[Given]:
    """Each of `given` once `work` on it is done, in their order, while workers do the next ones.

    Closing the iterator discards what was begun beyond the last one taken. With a single worker,
    or outside of `side_by_side`, nothing is begun ahead.
    """
    workers = _WORKERS.get()
    if workers is None or workers.count == 1:
        for item in given:
            work(item)
            yield item
        return
    begun: deque[tuple[Given, Future[object]]] = deque()
    try:
        for item in given:
            begun.append((item, workers.executor.submit(work, item)))
            if len(begun) > workers.count:
                first, done = begun.popleft()
                done.result()
                yield first
        while begun:
            first, done = begun.popleft()
            done.result()
            yield first
    finally:
        for _, waiting in begun:
            waiting.cancel()


def in_threads(
    work: Callable[[Given], Result], given: Iterable[Given], *, threads: int, ahead: int = 256
) -> Iterator[Result]:
    """The results of `work` on each of `given`, in their order, one after the other.

    For work that waits for files or releases the interpreter, such as decoding images. At most
    `ahead` results are computed before they are asked for; closing the iterator cancels the rest.
    """
    with ThreadPoolExecutor(min(threads, cores())) as executor:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in given:
                waiting.append(executor.submit(work, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            executor.shutdown(cancel_futures=True)


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


class _BlasLimit:
    """One BLAS thread as long as any thread asks for it, since the number is the process's.

    With a limit for each of two threads, the first to leave would lift it for both, and the second
    would restore the single thread that it found.
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
    """Since 3.8 threadpoolctl silently ignores all threads but the first that sets a number."""
    controller: Any = getattr(threadpoolctl, "OpenBLASController", None)
    if hasattr(controller, "clear_controlling_thread"):
        controller.clear_controlling_thread(force=True)


_LIMIT = _BlasLimit()
