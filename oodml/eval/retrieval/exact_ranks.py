"""Exact ranks of every query's positives, by counting nearer samples instead of sorting.

The rank of a positive is one more than the number of samples nearer than it, so no list of
neighbours is kept, and recall at 1,000 costs what recall at 1 costs. The similarity of two samples
is the dot product of their float32 unit vectors, rounded to float32. Products are formed in
float32, tile by tile, and again in float64 where rounding could decide (see `rank_counts`), so the
ranks depend neither on the tiles nor on the memory, the number of threads or the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from oodml.eval.retrieval.metrics import Ranking
from oodml.eval.retrieval.nearest import normalized
from oodml.eval.retrieval.rank_counts import (
    NO_SIMILARITY,
    RankCounts,
    Rows,
    SortedSamples,
    exact_part,
    exact_products,
    similarity_margin,
    tile,
)

# Bytes per positive of a block: held between tiles, and used while the block begins and ends; and
# bytes per product of a tile. Tiles suit the cache of a core, or keep a GPU busy.
_HELD, _IN_USE, _PER_PRODUCT = 28, 240, 40
_FEWEST, _SMALLEST, _LARGEST, _LARGEST_ON_GPU = 8, 64, 768, 8192
# Samples of small classes that are multiplied at once, and rows that are normalised at once.
_TOGETHER, _SLICE = 1024, 4096
# The share of rows, of both sides together, up to which a tile is formed for them alone.
_ALONE = 0.85
# More threads only wait for the interpreter lock.
_MOST_THREADS = 8
Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Samples:
    """Vectors (n, d) float32 and their labels (n,) int64."""

    vectors: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Depth:
    """How deep places are wanted: `first` for a query's nearest positive, `rest` for the others.

    Both (n,) int64, one per query; a place beyond is given as infinite.
    """

    first: Tensor
    rest: Tensor


def positive_ranks(
    query: Samples,
    gallery: Samples | None = None,
    *,
    depth: Depth,
    memory: int = 1 << 30,
    device: torch.device | str | None = None,
) -> Iterator[Ranking]:
    """Where the positives of every query stand, in blocks of queries in any order.

    Vectors are L2-normalised here; a zero vector has similarity 0 to everything. Without a gallery
    the queries are searched among themselves, each left out by its index, so an exact duplicate of
    it stays. Queries without a positive are left out. `memory` bounds the bytes that are used
    beyond the arguments, down to a floor of a few small tiles and eight queries' positives;
    the result does not depend on it.
    """
    rows, columns = sorted_samples(query, gallery, device)
    with thread_pool(rows.vectors.device) as pool:
        yield from _ranks(rows, columns, depth, memory, pool)


def sorted_samples(
    query: Samples, gallery: Samples | None, device: torch.device | str | None
) -> tuple[SortedSamples, SortedSamples]:
    """Queries and gallery by class, classes by the number of gallery samples; twice one if same."""
    found = query if gallery is None else gallery
    classes = int(max(query.labels.max(), found.labels.max())) + 1
    sizes = torch.bincount(found.labels, minlength=classes)
    place = sizes.argsort(stable=True).argsort()
    rows = _sorted(query, place, device)
    return rows, rows if gallery is None else _sorted(gallery, place, device)


def runs(falling: Tensor) -> tuple[Tensor, Tensor]:
    """For every entry (b, p), where the run of entries equal to it starts, and how long it is."""
    places = torch.arange(falling.shape[1], device=falling.device).expand_as(falling)
    changes = falling[:, 1:] != falling[:, :-1]
    edge = changes.new_ones(len(falling), 1)
    starts, ends = torch.cat((edge, changes), 1), torch.cat((changes, edge), 1)
    first = torch.where(starts, places, 0).cummax(1).values
    last = torch.where(ends, places, falling.shape[1]).flip(1).cummin(1).values.flip(1)
    return first, last - first + 1


@dataclass(frozen=True)
class ThreadPool:
    """`count` threads, those of `executor` if there is more than one."""

    count: int
    executor: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[Given], Result], given: Iterable[Given]) -> list[Result]:
        """`work` on each of `given`, in their order, float32 products in full precision."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            each = map if self.executor is None else self.executor.map
            return list(each(work, given))
        finally:
            torch.set_float32_matmul_precision(before)


@contextmanager
def thread_pool(device: torch.device) -> Iterator[ThreadPool]:
    """As many threads as PyTorch may use, each with its share of the cores; one for a GPU.

    A tile is counted by many small steps, most of which PyTorch and NumPy do on one core only;
    several tiles at once keep all cores busy.
    """
    cores = torch.get_num_threads()
    count = min(cores, _MOST_THREADS) if device.type == "cpu" else 1
    if count == 1:
        yield ThreadPool(1)
        return
    share = (cores // count,)
    executor = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=share)
    try:
        yield ThreadPool(count, executor)
    finally:
        executor.shutdown(cancel_futures=True)
        # torch.set_num_threads in one thread is also the default of later threads.
        torch.set_num_threads(cores)


@dataclass(frozen=True, eq=False)
class _Block:
    """Queries `rows`, their `positives` (b,) int64, and the counts of their other-class samples.

    `hits_before` and `hits` (b, p) int32 count the positives nearer than each positive's group of
    equally near ones, and that group.
    """

    rows: SortedSamples
    positives: Tensor
    hits_before: Tensor
    hits: Tensor
    counts: RankCounts


# Columns to be counted for a block, and the block whose rows they are if it is to be served too.
_Tile = tuple[SortedSamples, _Block | None]


def _sorted(samples: Samples, place: Tensor, device: torch.device | str | None) -> SortedSamples:
    places, order = place[samples.labels].sort(stable=True)
    vectors = torch.empty(samples.vectors.shape, device=device)
    for start in range(0, len(order), _SLICE):
        rows = order[start : start + _SLICE]
        vectors[start : start + _SLICE] = normalized(samples.vectors[rows].to(device))
    sizes = torch.bincount(places, minlength=len(place))
    starts = torch.cat((sizes.new_zeros(1), sizes.cumsum(0)))
    return SortedSamples(vectors, places.to(device), order.to(device), starts)


def _ranks(
    rows: SortedSamples, columns: SortedSamples, depth: Depth, memory: int, pool: ThreadPool
) -> Iterator[Ranking]:
    same = rows is columns
    used = rows.vectors.nbytes + (0 if same else columns.vectors.nbytes)
    left = max(memory - used, 0)
    width = _width(left // pool.count, rows.vectors.device)
    positives = (columns.starts[1:] - columns.starts[:-1])[rows.place.cpu()] - int(same)
    spans = _spans(positives.tolist(), width, left // 4 // pool.count)
    begin = partial(_begin, rows, columns, depth)
    if same and _HELD * int(positives.sum()) <= left // 2:
        lonely = columns.of(slice(0, spans[0][0])).cut(width)
        yield from _symmetric(pool.map(begin, spans), lonely, pool)
        return
    tiles: list[_Tile] = [(part, None) for part in columns.cut(width)]
    for block in map(begin, spans):
        pool.map(partial(_compare, block), tiles)
        yield _finish(block)


def _symmetric(
    blocks: list[_Block], lonely: list[SortedSamples], pool: ThreadPool
) -> Iterator[Ranking]:
    """Every product serves both of its samples, so half of the tiles suffice."""
    pool.map(lambda block: _compare(block, (block.rows, None)), blocks)
    for position, block in enumerate(blocks):
        tiles: list[_Tile] = [(part, None) for part in lonely]
        tiles += [(other.rows, other) for other in blocks[position + 1 :]]
        pool.map(partial(_compare, block), tiles)
        yield _finish(block)


def _width(memory: int, device: torch.device) -> int:
    largest = _LARGEST if device.type == "cpu" else _LARGEST_ON_GPU
    return min(max(math.isqrt(memory // 4 // _PER_PRODUCT), _SMALLEST), largest)


def _spans(positives: list[int], width: int, memory: int) -> list[tuple[int, int]]:
    """Blocks of at most `width` rows; rows without positives, which stand first, are in none."""
    spans = []
    start = positives.count(0)
    while start < len(positives):
        most = positives[min(start + width, len(positives)) - 1]
        stop = start + min(width, max(memory // (_IN_USE * most), _FEWEST))
        spans.append((start, min(stop, len(positives))))
        start = stop
    return spans


def _begin(
    rows: SortedSamples, columns: SortedSamples, depth: Depth, span: tuple[int, int]
) -> _Block:
    """A block of the rows in the span, with nothing counted yet."""
    block = rows.of(slice(*span))
    similarity = _to_positives(block, columns, offset=span[0] if rows is columns else -1)
    positives = (similarity > NO_SIMILARITY).sum(1)
    hits_before, hits = runs(similarity)
    first, rest = (each.to(block.order.device)[block.order] for each in (depth.first, depth.rest))
    wanted = rest[:, None].repeat(1, similarity.shape[1])
    wanted[:, 0] = first
    limit = torch.where(similarity > NO_SIMILARITY, wanted - hits_before, 0).clamp(0, 2**31 - 1)
    kept = max(int((limit > 0).sum(1).max()), 1)
    threshold, limit = similarity[:, :kept].contiguous(), limit[:, :kept].int()
    hits_before, hits = hits_before[:, :kept].int(), hits[:, :kept].int()
    return _Block(block, positives, hits_before, hits, RankCounts.of(threshold, limit))


def _to_positives(rows: SortedSamples, columns: SortedSamples, offset: int) -> Tensor:
    """Each row's similarities to its positives, falling, then -inf up to the longest row.

    `rows` are those of `columns` from `offset` on, or not among them if it is negative.
    """
    places, counts = torch.unique(rows.place.cpu(), return_counts=True)
    lefts = columns.starts[places]
    sizes = columns.starts[places + 1] - lefts
    longest = int(sizes.max())
    similarity = torch.full((len(rows), longest), NO_SIMILARITY, device=rows.vectors.device)
    classes = torch.stack((counts.cumsum(0) - counts, lefts, counts, sizes), 1)
    for part in _alike(classes):
        count, size = part[0, 2:].tolist()
        down = part[:, :1] + torch.arange(count)
        across = part[:, 1:2] + torch.arange(size)
        products = exact_products(rows.vectors[down], columns.vectors[across])
        if offset >= 0:
            itself = down[:, :, None] + offset == across[:, None]
            products.masked_fill_(itself.to(products.device), NO_SIMILARITY)
        similarity[down.flatten(), :size] = products.flatten(0, 1)
    similarity = similarity.sort(1, descending=True).values
    return similarity[:, : max(longest - (offset >= 0), 1)]


def _alike(classes: Tensor) -> Iterator[Tensor]:
    """Parts of the classes, each of as many rows and columns (its last two fields) as the others.

    Small ones are multiplied together, in parts so small that their memory hardly counts.
    """
    kinds, kind = torch.unique(classes[:, 2:], dim=0, return_inverse=True)
    for number, sizes in enumerate(kinds):
        yield from torch.split(classes[kind == number], max(_TOGETHER // int(sizes.max()), 1))


def _finish(block: _Block) -> Ranking:
    """The places of the block's positives once every sample has been counted."""
    counts = block.counts
    seen = counts.above < counts.limit
    return Ranking(
        query=block.rows.order,
        positives=block.positives,
        before=torch.where(seen, (block.hits_before + counts.above).double(), float("inf")),
        hits_before=torch.where(seen, block.hits_before, 0).double(),
        size=torch.where(seen, block.hits + counts.tied, 1).double(),
        hits=torch.where(seen, block.hits, 1).double(),
    )


def _compare(block: _Block, columns_of: _Tile) -> None:
    """Count the columns for a block, and its rows for the other block whose rows they are.

    Where few rows of both sides are still to be placed, a tile is formed for them alone.
    """
    columns, other = columns_of
    sides = [(block, columns)] + ([] if other is None else [(other, block.rows)])
    unplaced = [each.counts.unplaced() for each, _ in sides]
    pairs = list(zip(sides, unplaced, strict=True))
    if sum(len(rows) / len(each.rows) for (each, _), rows in pairs) > _ALONE:
        similarity = tile(block.rows, columns)
        _count(block, columns, slice(None), similarity)
        if other is not None:
            _count(other, block.rows, slice(None), similarity.T)
        return
    for (each, across), rows in pairs:
        if len(rows):
            _count(each, across, rows, tile(each.rows.of(rows), across))


def _count(block: _Block, columns: SortedSamples, rows: Rows, similarity: Tensor) -> None:
    counts = block.counts.part(rows)
    exact = partial(exact_part, block.rows.of(rows), columns)
    counts.add(similarity, similarity_margin(columns.vectors.shape[1]), exact)
    block.counts.put(rows, counts)
