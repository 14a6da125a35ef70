"""Counting by bfloat16: its error stays in its bound, and it never changes a rank."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oodml.eval import screening
from oodml.eval.ranks import Depth, positive_ranks
from oodml.eval.screening import Screen
from oodml.eval.tally import Tally
from oodml.eval.tiles import Samples, Side, chosen_products, exact_products, sorted_sides


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


@pytest.fixture(autouse=True)
def arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any processor multiplies in bfloat16, if slowly."""
    monkeypatch.setattr(screening, "has_arithmetic", lambda: True)


@pytest.mark.parametrize("samples", [clustered(1.0), clustered(0.01), alike()])
def test_a_coarse_similarity_lies_between_the_bounds_of_the_true_one(samples: Samples) -> None:
    side, _ = sorted_sides(samples, None, None)
    screen = Screen.of(side, side)
    assert screen is not None and 0 < screen.error < 3.1 * 2.0**-8
    coarse = screen.tile(side, side)
    other = side.place[:, None] != side.place
    assert bool((coarse[~other] == float("-inf")).all())
    truth = exact_products(side.vectors, side.vectors)
    lower, upper = screen._bounds(truth)
    assert bool(((lower <= coarse) & (coarse <= upper))[other].all())
    # The error is that of bfloat16 and not a hundred times as much.
    assert float((coarse.float() - truth)[other].abs().max()) > screen.error / 100


def test_chosen_products_are_those_of_the_whole_product() -> None:
    random = torch.Generator().manual_seed(0)
    rows, columns = (torch.randn(n, 16, generator=random, dtype=torch.float64) for n in (7, 9))
    chosen = torch.rand(7, 9, generator=random) < 0.3
    chosen[2] = False
    down, across = chosen.nonzero().unbind(1)
    found = chosen_products(rows, columns, down, across)
    assert torch.allclose(found, (rows @ columns.T)[chosen], atol=1e-12)


@pytest.mark.parametrize("copies", [0, 40])
@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_a_tile_is_counted_exactly_or_the_row_is_left(noise: float, copies: int) -> None:
    side, _ = sorted_sides(clustered(noise, copies), None, None)
    screen = Screen.of(side, side)
    assert screen is not None
    truth = exact_products(side.vectors, side.vectors)
    truth[side.place[:, None] == side.place] = float("-inf")
    random = torch.Generator().manual_seed(3)
    # Thresholds among the similarities themselves, so that there are ties to be counted.
    threshold = truth.gather(1, torch.randint(0, len(truth), (len(truth), 3), generator=random))
    limit = torch.randint(1, 400, threshold.shape, generator=random).int()
    zeros = torch.zeros_like(limit)
    tally = Tally(threshold, zeros.clone(), zeros.clone(), limit)
    left = screen.add(tally, screen.tile(side, side), side, side)
    above = (truth[:, None] > threshold[..., None]).sum(2)
    tied = (truth[:, None] == threshold[..., None]).sum(2)
    kept = torch.ones(len(truth), dtype=torch.bool)
    kept[left] = False
    assert not tally.above[left].any() and not tally.tied[left].any()
    seen = (tally.above < limit) & kept[:, None] & (threshold > float("-inf"))
    assert torch.equal(tally.above[seen].long(), above[seen])
    assert torch.equal(tally.tied[seen].long(), tied[seen])
    # A place is taken for lying beyond only where it does.
    beyond = (tally.above >= limit) & kept[:, None]
    assert bool((above >= limit)[beyond].all())
    assert int(seen.sum()) > 100 and int(beyond.sum()) > 100


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
    formed: list[int] = []
    tile = Screen.tile

    def watched(screen: Screen, rows: Side, columns: Side) -> Tensor:
        formed.append(len(rows))
        return tile(screen, rows, columns)

    monkeypatch.setattr(Screen, "tile", watched)
    results = []
    for screened in (False, True):
        monkeypatch.setattr(screening, "has_arithmetic", lambda screened=screened: screened)
        results.append(places(samples, gallery, memory=1 << 20))
        assert screened == bool(formed)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
