"""Exact ranks of every query's positives, by counting what is nearer instead of sorting.

The rank of a positive is one more than the number of samples nearer than it, so no list of
neighbours is kept, and recall at 1,000 costs what recall at 1 costs. The similarity of two samples
is the dot product of their float32 unit vectors, rounded to float32. Products are formed in
float32 first, where each lies within a proven margin of the true one; rows of a tile where that
leaves a comparison open are formed again in float64. Where bfloat16 is quicker it goes before both:
what its wider margin leaves open is compared pair by pair. So the result depends neither on the
tiles nor on the memory, the number of threads or a device's order of summing.

What a block of queries meets first shows which positives are likely to stand far beyond the depth
that is wanted. Of these it is only proved that they do; the few that do not are counted anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from oodml.eval.retrieval.meeting import meet
from oodml.eval.retrieval.positives import Block, begin_block, finish_block
from oodml.eval.retrieval.ranking import Ranking
from oodml.eval.retrieval.screening import Screen, is_quicker, rounded_sides
from oodml.eval.retrieval.tally import Tally
from oodml.eval.retrieval.threads import Threads, threads
from oodml.eval.retrieval.tiles import Samples, Side, sorted_sides

# Bytes per positive of a block: held between tiles, and used while the block begins and ends; and
# bytes per product of a tile. Tiles suit the cache of a core, or keep a GPU busy.
_HELD, _IN_USE, _PER_PRODUCT = 28, 240, 40
# Tiles for each thread between two looks at whether a screen is still worth its while.
_WAVE = 4
# Columns that a block meets, and the block whose rows they are if it is to be served too.
Tile = tuple[Side, Block | None]
_FEWEST, _SMALLEST, _LARGEST, _LARGEST_ON_GPU = 8, 64, 1536, 8192


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
    rows, columns = sorted_sides(query, gallery, device)
    screen = None
    if is_quicker(rows.vectors):
        rows, columns = rounded_sides(rows, columns)
        screen = Screen.of(rows, columns)
    with threads(rows.vectors.device) as pool:
        yield from _ranks(rows, columns, depth, memory, _Counter(screen, pool))


def _ranks(
    rows: Side, columns: Side, depth: Depth, memory: int, counter: _Counter
) -> Iterator[Ranking]:
    same, pool = rows is columns, counter.pool
    left = max(memory - rows.nbytes - (0 if same else columns.nbytes), 0)
    width = _width(left // pool.count, rows.vectors.device)
    positives = (columns.starts[1:] - columns.starts[:-1])[rows.place.cpu()] - int(same)
    spans = _spans(positives.tolist(), width, left // 4 // pool.count)
    begin = partial(_begin, rows, columns, depth)
    tiles = columns.cut(width)
    if same and _HELD * int(positives.sum()) <= left // 2:
        lonely = columns.part(0, spans[0][0]).cut(width)
        yield from _symmetric(pool.map(begin, spans), lonely, tiles, counter)
        return
    for block in map(begin, spans):
        counter.look([block], [tiles[0]], len(columns))
        counter.count(block, [(part, None) for part in tiles[1:]])
        counter.count_anew(block, tiles)
        yield finish_block(block)


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


def _begin(rows: Side, columns: Side, depth: Depth, span: tuple[int, int]) -> Block:
    part = rows.part(*span)
    first, rest = (each.to(part.order.device)[part.order] for each in (depth.first, depth.rest))
    return begin_block(part, columns, first, rest, offset=span[0] if rows is columns else -1)


def _symmetric(
    blocks: list[Block], lonely: list[Side], tiles: list[Side], counter: _Counter
) -> Iterator[Ranking]:
    """Every product serves both of its samples, so half of the tiles suffice."""
    total = sum(map(len, tiles))
    counter.look(blocks, [block.rows for block in blocks], total)
    for position, block in enumerate(blocks):
        others = [(other.rows, other) for other in blocks[position + 1 :]]
        counter.count(block, [*((part, None) for part in lonely), *others])
        counter.count_anew(block, tiles)
        yield finish_block(block)


def _meet(block: Block, screen: Screen | None, tile: Tile) -> bool:
    return meet(block, *tile, screen)


@dataclass(frozen=True)
class _Counter:
    """How tiles are counted: by a screen first, if there is one, and on which threads."""

    screen: Screen | None
    pool: Threads

    def look(self, blocks: list[Block], tiles: list[Side], total: int) -> None:
        """Count for each block the first of `total` columns: they show what lies far beyond."""
        self.pool.map(lambda pair: meet(*pair, None, None), zip(blocks, tiles, strict=True))
        if self.screen is not None:
            for block, columns in zip(blocks, tiles, strict=True):
                block.tally.set_aside(len(columns) / total)

    def count(self, block: Block, tiles: list[Tile]) -> None:
        """Count tiles of columns for a block, and for the block whose rows they are, if any."""
        screen, wave = self.screen, _WAVE * self.pool.count
        for start in range(0, len(tiles), wave):
            worth = self.pool.map(partial(_meet, block, screen), tiles[start : start + wave])
            screen = screen if all(worth) else None

    def count_anew(self, block: Block, tiles: list[Side]) -> None:
        """Count all columns for what was set aside and was not proved to lie beyond."""
        tally = block.tally
        missed = tally.aside & tally.wanted
        rows = missed.any(1).nonzero().squeeze(1)
        if not len(rows):
            return
        missed = missed[rows]
        fresh = Tally.of(tally.threshold[rows], torch.where(missed, tally.limit[rows], 0))
        self.count(
            replace(block, rows=block.rows.of(rows), tally=fresh), [(t, None) for t in tiles]
        )
        for counts, counted in ((tally.above, fresh.above), (tally.tied, fresh.tied)):
            counts[rows] = torch.where(missed, counted, counts[rows])
