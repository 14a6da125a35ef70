"""Screening by bfloat16: its error stays in its bound, and it never changes a rank."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from oodml.eval import ranks, screening
from oodml.eval.ranks import Depth, positive_ranks
from oodml.eval.tiles import Samples, exact_products, sorted_sides


def clustered(noise: float, copies: int = 0, seed: int = 1) -> Samples:
    """140 classes around the same centres for every seed; the first samples may copy the last."""
    centres = torch.randn(140, 24, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 140, (700,), generator=random)
    vectors = centres[labels] + noise * torch.randn(700, 24, generator=random)
    if copies:
        vectors[:copies] = vectors[-copies:]
    return Samples(vectors, labels)


def alike() -> Samples:
    """Vectors of one direction, nearly, so that all products are rounded as much as they can be."""
    random = torch.Generator().manual_seed(0)
    return Samples(1 + 0.01 * torch.randn(200, 512, generator=random), torch.arange(200) // 2)


@pytest.mark.parametrize("samples", [clustered(1.0), clustered(0.01), alike()])
def test_the_error_of_a_coarse_tile_stays_in_its_bound(samples: Samples) -> None:
    side, _ = sorted_sides(samples, None, None)
    coarse = screening.coarse_tile(side, side).float()
    other = side.place[:, None] != side.place
    assert bool((coarse[~other] == float("-inf")).all())
    error = (coarse - exact_products(side.vectors, side.vectors))[other].abs().max()
    assert 0 < float(error) <= screening._ROUNDING


def places(samples: Samples, gallery: Samples | None, memory: int) -> list[Tensor]:
    depth = torch.full((len(samples.labels),), 50)
    found = sorted(
        ((int(row), [field[at].tolist() for field in (r.before, r.size, r.hits, r.hits_before)])
         for r in positive_ranks(samples, gallery, depth=Depth(depth, depth), memory=memory)
         for at, row in enumerate(r.query)),
    )  # fmt: skip
    return [torch.tensor(place) for _, place in found]


@pytest.mark.parametrize("copies", [0, 30])
@pytest.mark.parametrize("noise", [0.05, 0.3, 3.0])
@pytest.mark.parametrize("other", [False, True])
def test_screening_changes_no_place(
    other: bool, noise: float, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = clustered(noise, copies)
    gallery = clustered(noise, seed=2) if other else None
    parts: list[int] = []
    compare_part = ranks._compare_part

    def counted(block: Any, columns: Any, found: Tensor, out: Tensor) -> None:
        parts.append(len(found) - len(block.rows))
        compare_part(block, columns, found, out)

    monkeypatch.setattr(ranks, "_compare_part", counted)
    results = []
    for screened in (False, True):
        monkeypatch.setattr(screening, "has_arithmetic", lambda screened=screened: screened)
        results.append(places(samples, gallery, memory=1 << 20))
        assert screened or noise > 1 or not parts
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
    assert noise > 1 or min(parts) < 0, "screening was not seen at work"
