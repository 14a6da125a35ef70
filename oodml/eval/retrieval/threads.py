"""Tiles side by side: as many threads as PyTorch may use, each with its share of the cores.

A tile is counted by many small steps, most of which PyTorch and NumPy do on one core only; tiles
side by side keep all cores busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

from oodml.eval.retrieval.tiles import full_precision

# Beyond these the interpreter, which is one, keeps them waiting.
_MOST = 8
Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Threads:
    """So many threads, of `executor` if they are more than one."""

    count: int
    executor: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[Given], Result], given: Iterable[Given]) -> list[Result]:
        """`work` on each of `given`, in their order, float32 in full precision."""
        with full_precision():
            if self.executor is None:
                return [work(item) for item in given]
            return list(self.executor.map(work, given))


@contextmanager
def threads(device: torch.device) -> Iterator[Threads]:
    """The threads for work on a device: one for a GPU, which has cores of its own."""
    cores = torch.get_num_threads()
    count = min(cores, _MOST) if device.type == "cpu" else 1
    if count == 1:
        yield Threads(1)
        return
    share = (cores // count,)
    executor = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=share)
    try:
        yield Threads(count, executor)
    finally:
        executor.shutdown(cancel_futures=True)
        # What a thread sets for itself is also what later threads begin with.
        torch.set_num_threads(cores)
