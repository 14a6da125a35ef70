"""A block of queries against their own positives: where its counting begins and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from oodml.eval.retrieval.ranking import Ranking
from oodml.eval.retrieval.tally import Tally
from oodml.eval.retrieval.tiles import Side, exact_products

_NONE = float("-inf")
# Samples of small classes that are multiplied at once.
_TOGETHER = 1024


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
    hits_before, hits = hits_before[:, :kept].int(), hits[:, :kept].int()
    return Block(rows, positives, hits_before, hits, Tally.of(threshold, limit))


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
    places, counts = torch.unique(rows.place.cpu(), return_counts=True)
    lefts = columns.starts[places]
    sizes = columns.starts[places + 1] - lefts
    longest = int(sizes.max())
    similarity = torch.full((len(rows), longest), _NONE, device=rows.vectors.device)
    classes = torch.stack((counts.cumsum(0) - counts, lefts, counts, sizes), 1)
    for part in _alike(classes):
        count, size = part[0, 2:].tolist()
        down = part[:, :1] + torch.arange(count)
        across = part[:, 1:2] + torch.arange(size)
        products = exact_products(rows.vectors[down], columns.vectors[across])
        if offset >= 0:
            itself = down[:, :, None] + offset == across[:, None]
            products.masked_fill_(itself.to(products.device), _NONE)
        similarity[down.flatten(), :size] = products.flatten(0, 1)
    similarity = similarity.sort(1, descending=True).values
    return similarity[:, : max(longest - (offset >= 0), 1)]


def _alike(classes: Tensor) -> Iterator[Tensor]:
    """Parts of the classes, each of as many rows and columns (its last two fields) as the others.

    Small ones are multiplied together, in parts so small that they take no memory to speak of.
    """
    kinds, kind = torch.unique(classes[:, 2:], dim=0, return_inverse=True)
    for number, sizes in enumerate(kinds):
        yield from torch.split(classes[kind == number], max(_TOGETHER // int(sizes.max()), 1))


def runs(falling: Tensor) -> tuple[Tensor, Tensor]:
    """For every entry (b, p), where the run of entries equal to it starts, and how long it is."""
    places = torch.arange(falling.shape[1], device=falling.device).expand_as(falling)
    changes = falling[:, 1:] != falling[:, :-1]
    edge = changes.new_ones(len(falling), 1)
    starts, ends = torch.cat((edge, changes), 1), torch.cat((changes, edge), 1)
    first = torch.where(starts, places, 0).cummax(1).values
    last = torch.where(ends, places, falling.shape[1]).flip(1).cummin(1).values.flip(1)
    return first, last - first + 1
