"""Exact ranks of every query's positives, by counting what is nearer instead of sorting.

The rank of a positive is one more than the number of samples nearer than it, so no list of
neighbours is kept, and recall at 1,000 costs what recall at 1 costs. The similarity of two samples
is the dot product of their float32 unit vectors, rounded to float32. Products are formed in
float32 first, where each lies within a proven margin of the true one; rows of a tile where that
leaves a comparison open are formed again in float64. Where bfloat16 is quicker it goes before both:
what its wider margin leaves open is compared pair by pair. So the result depends neither on the
tiles nor on the memory, the number of threads or a device's order of summing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from oodml.eval.positives import Block, begin_block, finish_block
from oodml.eval.ranking import Ranking
from oodml.eval.screening import Screen
from oodml.eval.tiles import Samples, Side, exact_part, margin, sorted_sides, tile

# Bytes per positive of a block: held between tiles, and used while the block begins and ends; and
# bytes per product of a tile. Tiles suit the cache of a core, or keep a GPU busy.
_HELD, _IN_USE, _PER_PRODUCT = 24, 240, 40
# The share of rows, of both sides together, up to which a tile is formed for them alone; and the
# share of these that bfloat16 may leave to float32 and still be worth its while.
_ALONE, _WORTH = 0.85, 0.6
_FEWEST, _SMALLEST, _LARGEST, _LARGEST_ON_GPU = 8, 64, 1024, 8192


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
    held = sum(side.vectors.numel() for side in ([rows] if rows is columns else [rows, columns]))
    left = max(memory - 4 * held, 0)
    width = _width(left, rows.vectors.device)
    positives = (columns.starts[1:] - columns.starts[:-1])[rows.place.cpu()] - int(rows is columns)
    spans = _spans(positives.tolist(), width, left // 4)
    first = Screen.of(rows, columns)
    begin = partial(_begin, rows, columns, depth)
    out = torch.empty(width * width, device=rows.vectors.device)
    if rows is columns and _HELD * int(positives.sum()) <= left // 2:
        yield from _symmetric(rows, [begin(span) for span in spans], first, out)
        return
    for block in map(begin, spans):
        screen = first
        for start in range(0, len(columns), width):
            screen = _meet(block, columns.part(start, start + width), out, screen)
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
    whole: Side, blocks: list[Block], first: Screen | None, out: Tensor
) -> Iterator[Ranking]:
    """Every product serves both of its samples, so half of the tiles suffice."""
    width = math.isqrt(len(out))
    lonely = len(whole) - sum(len(block.rows) for block in blocks)
    for position, block in enumerate(blocks):
        screen = first
        for start in range(0, lonely, width):
            screen = _meet(block, whole.part(start, min(start + width, lonely)), out, screen)
        _compare(block, block.rows, out)
        for other in blocks[position + 1 :]:
            screen = _meet(block, other.rows, out, screen, other)
        yield finish_block(block)


def _meet(
    block: Block, columns: Side, out: Tensor, screen: Screen | None, other: Block | None = None
) -> Screen | None:
    """Count a tile for the block, and for the `other` whose rows the columns are.

    Where few rows of both sides are still to be placed, it is formed for them alone. Returns the
    screen for the next tile: none once a tile has left most of its work to float32.
    """
    sides = [(block, columns)] + ([] if other is None else [(other, block.rows)])
    found = [each.tally.unplaced() for each, _ in sides]
    share = _share(sides, found)
    if screen is not None:
        found = _screened(sides, found, screen, together=share > _ALONE)
        screen = screen if _share(sides, found) <= _WORTH * share else None
    elif share > _ALONE:
        similarity = _compare(block, columns, out)
        if other is not None:
            exact = partial(exact_part, other.rows, block.rows)
            other.tally.add(similarity.T, margin(columns.vectors.shape[1]), exact)
        return None
    for (each, across), rows in zip(sides, found, strict=True):
        _compare_part(each, across, rows, out)
    return screen


def _screened(
    sides: list[tuple[Block, Side]], found: list[Tensor], screen: Screen, *, together: bool
) -> list[Tensor]:
    """Count what bfloat16 can count of the found rows; for each side the rows that it left."""
    block, columns = sides[0]
    whole = screen.tile(block.rows, columns) if together else None
    left = []
    for at, ((each, across), rows) in enumerate(zip(sides, found, strict=True)):
        if whole is not None:
            rows = screen.reached(each.tally, whole.amax(1 - at))
        if not len(rows):
            left.append(rows)
            continue
        chosen, tally = each.rows.of(rows), each.tally.part(rows)
        if whole is None:
            similarity = screen.tile(chosen, across)
        else:
            similarity = (whole.T if at else whole).index_select(0, rows)
        left.append(rows[screen.add(tally, similarity, chosen, across)])
        each.tally.put(rows, tally)
    return left


def _share(sides: list[tuple[Block, Side]], found: list[Tensor]) -> float:
    pairs = zip(sides, found, strict=True)
    return sum(len(rows) / len(block.rows) for (block, _), rows in pairs)


def _compare_part(block: Block, columns: Side, found: Tensor, out: Tensor) -> None:
    if not len(found):
        return
    rows, tally = block.rows.of(found), block.tally.part(found)
    similarity = tile(rows, columns, out)
    tally.add(similarity, margin(columns.vectors.shape[1]), partial(exact_part, rows, columns))
    block.tally.put(found, tally)


def _compare(block: Block, columns: Side, out: Tensor) -> Tensor:
    similarity = tile(block.rows, columns, out)
    exact = partial(exact_part, block.rows, columns)
    block.tally.add(similarity, margin(columns.vectors.shape[1]), exact)
    return similarity
