"""A tile of similarities, counted for a block of queries and for a second one if it serves both."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from oodml.eval.retrieval.positives import Block
from oodml.eval.retrieval.screening import Screen
from oodml.eval.retrieval.tally import Rows
from oodml.eval.retrieval.tiles import Side, exact_part, margin, tile

# The share of rows, of both sides together, up to which a tile is formed for them alone; and the
# share of these that bfloat16 may leave to float32 and still be worth its while.
_ALONE, _WORTH = 0.85, 0.6
_ALL = slice(None)


def meet(block: Block, columns: Side, other: Block | None, screen: Screen | None) -> bool:
    """Count the columns for a block, and its rows for the `other` whose rows the columns are.

    Where few rows of both sides are still to be placed, a tile is formed for them alone. Returns
    whether the screen has left little enough of its work to float32.
    """
    sides = [(block, columns)] + ([] if other is None else [(other, block.rows)])
    found = [each.tally.unplaced() for each, _ in sides]
    share = _share(sides, found)
    together = share > _ALONE
    if screen is None and together:
        _compare_together(sides)
        return True
    if screen is not None:
        screened = _screened_together if together else _screened_alone
        found = screened(sides, found, screen)
    for (each, across), rows in zip(sides, found, strict=True):
        if len(rows):
            similarity = tile(each.rows.of(rows), across)
            _compare(each, across, rows, similarity, screened=screen is not None)
    return _share(sides, found) <= _WORTH * share


def _share(sides: list[tuple[Block, Side]], found: list[Tensor]) -> float:
    pairs = zip(sides, found, strict=True)
    return sum(len(rows) / len(block.rows) for (block, _), rows in pairs)


def _screened_together(
    sides: list[tuple[Block, Side]], found: list[Tensor], screen: Screen
) -> list[Tensor]:
    """Count one tile for all rows; for each side the rows that are left to float32."""
    block, columns = sides[0]
    similarity = screen.tile(block.rows, columns)
    left = []
    for axis, (each, _) in enumerate(sides):
        tally = each.tally.part(_ALL)
        left.append(screen.add(tally, similarity, block.rows, columns, axis=axis))
        each.tally.put(_ALL, tally)
    return left


def _screened_alone(
    sides: list[tuple[Block, Side]], found: list[Tensor], screen: Screen
) -> list[Tensor]:
    """Count a tile of the found rows for each side; the rows that are left to float32."""
    left = []
    for (each, across), rows in zip(sides, found, strict=True):
        if len(rows):
            chosen, tally = each.rows.of(rows), each.tally.part(rows)
            still = screen.add(tally, screen.tile(chosen, across), chosen, across)
            each.tally.put(rows, tally)
            rows = rows[still]
        left.append(rows)
    return left


def _compare_together(sides: list[tuple[Block, Side]]) -> None:
    block, columns = sides[0]
    similarity = tile(block.rows, columns)
    for (each, across), part in zip(sides, (similarity, similarity.T), strict=False):
        _compare(each, across, _ALL, part)


def _compare(
    block: Block, columns: Side, rows: Rows, similarity: Tensor, *, screened: bool = False
) -> None:
    """Count a tile in float32 for these rows of the block."""
    tally = block.tally.part(rows)
    exact = partial(exact_part, block.rows.of(rows), columns)
    tally.add(similarity, margin(columns.vectors.shape[1]), exact)
    if screened:
        # For these the screen has counted the tile, whatever else it has left.
        tally.drop_aside()
    block.tally.put(rows, tally)
