"""Exact nearest neighbours by cosine similarity, in blocks, whatever the number of samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from oodml.errors import UsageError

# Every matrix product has this one shape, padded with zeros, so that neither the memory budget
# nor a sample's position changes the order in which its products are summed. COLUMNS is a
# multiple of ROWS, for one padded matrix serves as both.
ROWS, COLUMNS = 256, 2048
_OUTSIDE = float("-inf")


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The k nearest gallery samples of the queries `first`, `first + 1`, ... of one block.

    `similarity` (b, k) float32 falls along each row; `index` (b, k) int64 rises where it ties.
    """

    first: int
    similarity: Tensor
    index: Tensor


def nearest_neighbors(
    query: Tensor,
    gallery: Tensor | None = None,
    *,
    k: int,
    memory: int = 1 << 30,
    device: torch.device | str | None = None,
) -> Iterator[Neighbors]:
    """The k nearest gallery samples of every query, block by block, in the queries' order.

    `query` (n, d) and `gallery` (m, d) are float32 and are L2-normalised here; a zero vector has
    similarity 0 to everything. Without a gallery the queries are searched among themselves and
    each query is left out by its index, so an exact duplicate of it stays. Equal similarities are
    ordered by index. `memory` bounds the bytes that are used beyond the arguments, down to a floor
    of one block of 256 x 2048; the result does not depend on it. Raises `UsageError` for k above m
    (n - 1 without a gallery).
    """
    available = len(query) - 1 if gallery is None else len(gallery)
    if not 1 <= k <= available:
        raise UsageError(f"{k} nearest neighbours of {available} samples: give 1 to {available}.")
    rows = columns = _unit_rows(query, device)
    held = rows.numel()
    if gallery is not None:
        columns = _unit_rows(gallery, device)
        held += columns.numel()
    count = len(query) if gallery is None else len(gallery)
    width = _width(memory - 4 * held, k, len(columns))
    buffer = torch.empty(ROWS, width, device=rows.device)
    for first in range(0, len(query), ROWS):
        block = rows[first : first + ROWS]
        best: Neighbors | None = None
        for start in range(0, count, width):
            similarity = _similarity(block, columns[start : start + width], buffer)
            similarity = similarity[: len(query) - first, : count - start]
            if gallery is None:
                _leave_out(similarity, first - start)
            found = _of_block(similarity, first, start, k)
            best = found if best is None else _merged(best, found, k)
        if best is not None:
            yield best


def normalized(vectors: Tensor) -> Tensor:
    """The rows at length one, float32; a zero row stays zero.

    `vectors` is (n, d).
    """
    # Scaled by the largest entry first, so that no square overflows or vanishes.
    largest = vectors.abs().amax(1, keepdim=True)
    vectors = vectors / torch.where(largest > 0, largest, 1)
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True, dtype=torch.float64).float()
    return vectors / torch.where(length > 0, length, 1)


def _unit_rows(vectors: Tensor, device: torch.device | str | None) -> Tensor:
    """The rows at length one, zero rows appended up to a multiple of COLUMNS; slice by slice."""
    count, dimension = vectors.shape
    unit = torch.zeros(count + -count % COLUMNS, dimension, device=device)
    for start in range(0, count, COLUMNS):
        rows = normalized(vectors[start : start + COLUMNS].to(device))
        unit[start : start + len(rows)] = rows
    return unit


def _width(memory: int, k: int, available: int) -> int:
    # Per column: the similarity, a comparison and the pairs that topk sorts; per neighbour: the
    # lists of two blocks, side by side, sorted.
    columns = (memory - ROWS * k * 96) // (ROWS * 6 + 64)
    return min(max(columns // COLUMNS, 1) * COLUMNS, available)


def _similarity(block: Tensor, columns: Tensor, buffer: Tensor) -> Tensor:
    for start in range(0, len(columns), COLUMNS):
        tile = columns[start : start + COLUMNS]
        buffer[:, start : start + COLUMNS] = block @ tile.T
    return buffer[:, : len(columns)]


def _leave_out(similarity: Tensor, offset: int) -> None:
    """Take out the query itself: row r stands at column r + offset."""
    rows = torch.arange(len(similarity), device=similarity.device)
    inside = (rows + offset >= 0) & (rows + offset < similarity.shape[1])
    similarity[rows[inside], rows[inside] + offset] = _OUTSIDE


def _of_block(similarity: Tensor, first: int, start: int, k: int) -> Neighbors:
    k = min(k, similarity.shape[1])
    values, index = _by_index(*similarity.topk(k))
    last = values[:, -1:]
    # topk takes any of the tied at the border; there the whole row is sorted instead.
    over = ((similarity == last).sum(1) > (values == last).sum(1)).nonzero().squeeze(1)
    index[over] = similarity[over].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return Neighbors(first, values, index + start)


def _by_index(values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Order by similarity, falling, and by index where it ties."""
    index, order = index.sort(dim=1)
    values, by_value = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, index.gather(1, by_value)


def _merged(left: Neighbors, right: Neighbors, k: int) -> Neighbors:
    """The k best of two lists; all of `left` come before all of `right` in the gallery."""
    both = torch.cat((left.similarity, right.similarity), 1)
    both, order = both.sort(dim=1, descending=True, stable=True)
    index = torch.cat((left.index, right.index), 1).gather(1, order)
    return Neighbors(left.first, both[:, :k], index[:, :k])
