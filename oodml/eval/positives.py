"""A block of queries against their own positives: where its counting begins and how it ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodml.eval.ranking import Ranking
from oodml.eval.tally import Tally
from oodml.eval.tiles import Side, exact_products

_NONE = float("-inf")


@dataclass(frozen=True, eq=False)
class Block:
    """Queries `rows`, their `positives` (b,) int64, and the tally of their other-class samples.

    `hits_before` and `hits` (b, p) int32 count the positives nearer than each positive's group of
    equally near ones, and that group.
    """

    rows: Side
    positives: Tensor
    hits_before: Tensor
    hits: Tensor
    tally: Tally


def begin_block(rows: Side, columns: Side, first: Tensor, rest: Tensor, *, offset: int) -> Block:
    """A block with nothing counted yet.

    The nearest positive is wanted up to rank `first` (b,), the others up to `rest` (b,). `rows`
    are the rows of `columns` from `offset` on, or are not among them if it is negative.
    """
    similarity = _similarity(rows, columns, offset)
    positives = (similarity > _NONE).sum(1)
    hits_before, hits = runs(similarity)
    wanted = rest[:, None].repeat(1, similarity.shape[1])
    wanted[:, 0] = first
    limit = torch.where(similarity > _NONE, wanted - hits_before, 0).clamp(0, 2**31 - 1)
    kept = max(int((limit > 0).sum(1).max()), 1)
    threshold, limit = similarity[:, :kept].contiguous(), limit[:, :kept].int()
    above = torch.zeros_like(limit)
    tally = Tally(threshold, above, torch.zeros_like(limit), limit)
    return Block(rows, positives, hits_before[:, :kept].int(), hits[:, :kept].int(), tally)


def finish_block(block: Block) -> Ranking:
    """The places of the block's positives once every sample has been counted."""
    tally = block.tally
    seen = tally.above < tally.limit
    return Ranking(
        query=block.rows.order,
        positives=block.positives,
        before=torch.where(seen, (block.hits_before + tally.above).double(), float("inf")),
        hits_before=torch.where(seen, block.hits_before, 0).double(),
        size=torch.where(seen, block.hits + tally.tied, 1).double(),
        hits=torch.where(seen, block.hits, 1).double(),
    )


def _similarity(rows: Side, columns: Side, offset: int) -> Tensor:
    """Each row's similarities to its positives, falling, then -inf up to the longest row."""
    places, sizes = torch.unique(rows.place, return_counts=True)
    classes, counts = places.tolist(), sizes.tolist()
    bounds = columns.starts
    longest = int((bounds[classes[-1] + 1] - bounds[classes[-1]]).item())
    similarity = torch.full((len(rows), longest), _NONE, device=rows.vectors.device)
    top = 0
    for one, count in zip(classes, counts, strict=True):
        left, right = bounds[one : one + 2].tolist()
        block = slice(top, top + count)
        similarity[block, : right - left] = exact_products(
            rows.vectors[block], columns.vectors[left:right]
        )
        if offset >= 0:
            itself = torch.arange(count, device=similarity.device)
            similarity[top + itself, offset + top - left + itself] = _NONE
        top += count
    similarity = similarity.sort(1, descending=True).values
    return similarity[:, : max(longest - (offset >= 0), 1)]


def runs(falling: Tensor) -> tuple[Tensor, Tensor]:
    """For every entry (b, p), where the run of entries equal to it starts, and how long it is."""
    places = torch.arange(falling.shape[1], device=falling.device).expand_as(falling)
    changes = falling[:, 1:] != falling[:, :-1]
    edge = changes.new_ones(len(falling), 1)
    starts, ends = torch.cat((edge, changes), 1), torch.cat((changes, edge), 1)
    first = torch.where(starts, places, 0).cummax(1).values
    last = torch.where(ends, places, falling.shape[1]).flip(1).cummin(1).values.flip(1)
    return first, last - first + 1
