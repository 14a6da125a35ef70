"""Counting what is nearer, tile by tile, where rounding decides."""

from __future__ import annotations

import torch

from oodml.eval.tally import Tally


def test_a_similarity_on_the_rounded_edge_of_the_margin_is_looked_at_again() -> None:
    """threshold + margin is rounded up here, so their difference exceeds the margin itself."""
    margin = 1e-6
    threshold = torch.tensor([[0.9]])
    edge = threshold + margin
    while float(edge.double() - threshold.double()) <= 1.01 * margin:
        threshold = torch.nextafter(threshold, torch.ones(()))
        edge = threshold + margin
    tally = Tally(
        threshold,
        torch.zeros(1, 1, dtype=torch.int32),
        torch.zeros(1, 1, dtype=torch.int32),
        torch.full((1, 1), 5, dtype=torch.int32),
    )
    asked: list[int] = []

    def exact(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        asked.append(len(columns))
        return threshold.expand(len(rows), len(columns))

    tally.add(torch.cat([edge, torch.zeros(1, 3)], dim=1), margin, exact)
    assert asked == [1] and tally.above.item() == 0 and tally.tied.item() == 1
