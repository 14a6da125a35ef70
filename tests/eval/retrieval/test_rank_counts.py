"""Counting what is nearer, tile by tile, where rounding decides."""

from __future__ import annotations

import pytest
import torch

from oodml.eval.retrieval.rank_counts import RankCounts


def test_a_similarity_on_the_rounded_edge_of_the_margin_is_looked_at_again() -> None:
    """threshold + margin is rounded up here, so their difference exceeds the margin itself."""
    margin = 1e-6
    threshold = torch.tensor([[0.9]])
    edge = threshold + margin
    while float(edge.double() - threshold.double()) <= 1.01 * margin:
        threshold = torch.nextafter(threshold, torch.ones(()))
        edge = threshold + margin
    counts = RankCounts.of(threshold, torch.full((1, 1), 5, dtype=torch.int32))
    asked: list[int] = []

    def exact(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        asked.append(len(columns))
        return threshold.expand(len(rows), len(columns))

    counts.add(torch.cat([edge, torch.zeros(1, 3)], dim=1), margin, exact)
    assert asked == [1] and counts.above.item() == 0 and counts.tied.item() == 1


@pytest.mark.parametrize(("limit", "truth", "above", "tied"), [(3, 0.6, 3, 0), (3, 0.5, 2, 1)])
def test_a_place_is_looked_at_again_up_to_its_limit_and_not_beyond(
    limit: int, truth: float, above: int, tied: int
) -> None:
    """Two are nearer for sure; the third, which is not told from the threshold, decides."""
    asked: list[int] = []

    def exact(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        asked.append(len(columns))
        return torch.full((len(rows), len(columns)), truth)

    tile = torch.tensor([[0.9, 0.5, 0.1, 0.9]])
    counts = RankCounts.of(torch.tensor([[0.5]]), torch.tensor([[limit]], dtype=torch.int32))
    counts.add(tile.clone(), 1e-3, exact)
    assert asked == [1] and (counts.above.item(), counts.tied.item()) == (above, tied)
    beyond = RankCounts.of(torch.tensor([[0.5]]), torch.tensor([[2]], dtype=torch.int32))
    beyond.add(tile, 1e-3, exact)
    assert asked == [1] and beyond.above.item() == 2


def test_parts_count_for_themselves_and_are_added_up() -> None:
    counts = RankCounts.of(
        torch.tensor([[0.5], [0.5]]), torch.tensor([[4], [4]], dtype=torch.int32)
    )
    counts.above.copy_(torch.tensor([[1], [3]]))
    first, second = counts.part(torch.tensor([1])), counts.part(slice(None))
    assert first.limit.tolist() == [[1]] and second.limit.tolist() == [[3], [1]]
    first.above.add_(1)
    second.above.add_(2)
    second.tied.add_(1)
    assert counts.wanted.tolist() == [[True], [True]]
    counts.put(torch.tensor([1]), first)
    counts.put(slice(None), second)
    assert counts.above.tolist() == [[3], [6]] and counts.tied.tolist() == [[1], [1]]
    assert counts.unplaced().tolist() == [0]
