"""faiss, on as many threads as it is to use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

from oodml.errors import UsageError


@contextmanager
def faiss_on(threads: int | None = None) -> Iterator[ModuleType]:
    """faiss with that many threads within it (default: as many as PyTorch may use here).

    The number holds for the calling thread alone, which gets its own back. Raises `UsageError`
    where faiss is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise UsageError(
            "this needs faiss, which is not installed; type: pip install faiss-cpu."
        ) from None
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads or torch.get_num_threads())
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)
