"""Counting by bfloat16: its error stays in its bound, and it never changes a rank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from oodml.eval.retrieval import exact_ranks as ranks
from oodml.eval.retrieval import screening
from oodml.eval.retrieval.exact_ranks import Depth, positive_ranks
from oodml.eval.retrieval.screening import Screen
from oodml.eval.retrieval.tally import Tally
from oodml.eval.retrieval.tiles import (
    Samples,
    Side,
    chosen_products,
    exact_products,
    margin,
    sorted_sides,
)


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
    assert 0 < screen.error < 3.1 * 2.0**-8
    coarse = screen.tile(side, side)
    other = side.place[:, None] != side.place
    assert bool((coarse[~other] == float("-inf")).all())
    truth = exact_products(side.vectors, side.vectors)
    lower, upper = screen._bounds(truth, torch.ones_like(other))
    keys = screening._keys(coarse)
    assert ((lower <= keys) & (keys <= upper))[other.numpy()].all()
    # The error is that of bfloat16 and not a hundred times as much.
    assert float((coarse.float() - truth)[other].abs().max()) > screen.error / 100


def test_the_error_is_that_of_both_sides_and_of_their_product() -> None:
    sides = [sorted_sides(clustered(1.0, seed=seed), None, None)[0] for seed in (1, 2)]
    vectors = [side.vectors.double() for side in sides]
    one, two = (float((v - v.bfloat16()).norm(dim=1).max()) for v in vectors)
    expected = one + two + one * two + margin(24)
    # Far closer than the product of both, which is a thousandth of it.
    assert Screen.of(*sides).error == pytest.approx(expected, rel=1e-6)


def test_chosen_products_are_those_of_the_whole_product() -> None:
    random = torch.Generator().manual_seed(0)
    rows, columns = (torch.randn(n, 16, generator=random) for n in (7, 9))
    chosen = torch.rand(7, 9, generator=random) < 0.3
    chosen[2] = False
    down, across = chosen.nonzero().unbind(1)
    found = chosen_products(rows, columns, down, across)
    assert torch.allclose(found, (rows.double() @ columns.double().T)[chosen].float(), atol=1e-5)
    order = torch.randperm(len(down), generator=random)
    assert torch.equal(chosen_products(rows, columns, down[order], across[order]), found[order])


def test_keys_are_in_the_order_of_the_numbers() -> None:
    values = torch.randn(300, generator=torch.Generator().manual_seed(0)).bfloat16()
    values = torch.cat((values, values.new_tensor([0.0, -0.0, float("inf"), float("-inf")])))
    keys = screening._keys(values)
    assert np.array_equal(keys[:, None] > keys, (values[:, None] > values).numpy())
    assert np.array_equal(keys[:, None] == keys, (values[:, None] == values).numpy())


def tally_of_three(truth: Tensor, aside: float) -> Tally:
    """Thresholds among the similarities themselves, so that there are ties to be counted."""
    random = torch.Generator().manual_seed(3)
    threshold = truth.gather(1, torch.randint(0, len(truth), (len(truth), 3), generator=random))
    limit = torch.randint(1, 400, threshold.shape, generator=random).int()
    tally = Tally.of(threshold, torch.where(threshold > float("-inf"), limit, 0))
    tally.aside.copy_(torch.rand(threshold.shape, generator=random) < aside)
    return tally


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("copies", [0, 40])
@pytest.mark.parametrize(("noise", "dense"), [(0.3, 0.5), (3.0, 0.5), (3.0, 3.0)])
def test_a_tile_is_counted_exactly_or_the_row_is_left(
    noise: float, dense: float, copies: int, axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "_DENSE", dense)
    queries, _ = sorted_sides(clustered(noise, copies), None, None)
    others, _ = sorted_sides(clustered(noise, copies, seed=2), None, None)
    others = replace(others, starts=queries.starts)
    screen = Screen.of(queries, others)
    truth = exact_products(queries.vectors, others.vectors)
    truth[queries.place[:, None] == others.place] = float("-inf")
    tally = tally_of_three(truth, aside=0.2)
    rows, columns = (others, queries) if axis else (queries, others)
    left = screen.add(tally, screen.tile(rows, columns), rows, columns, axis=axis)
    above = (truth[:, None] > tally.threshold[..., None]).sum(2)
    tied = (truth[:, None] == tally.threshold[..., None]).sum(2)
    aside, kept = tally.aside, ~torch.isin(torch.arange(len(truth)), left)[:, None]
    assert not tally.above[~kept & ~aside].any() and not tally.tied[~kept & ~aside].any()
    # Of what is set aside a part is counted, and nothing that is not above it.
    assert bool((tally.above <= above)[aside].all()) and tally.above[aside].any()
    seen = tally.wanted & kept & ~aside
    assert torch.equal(tally.above[seen].long(), above[seen])
    assert torch.equal(tally.tied[seen].long(), tied[seen])
    # A place is taken for lying beyond only where it does.
    beyond = ~tally.wanted & kept
    assert bool((above >= tally.limit)[beyond].all())
    if dense > 1:
        assert int(seen.sum()) > 100 and int(beyond.sum()) > 100


def places(samples: Samples, gallery: Samples | None, memory: int) -> dict[int, list[float]]:
    """The places of every query's positives that are among its 20 nearest."""
    depth = torch.full((len(samples.labels),), 20)
    found = {}
    for r in positive_ranks(samples, gallery, depth=Depth(depth, depth), memory=memory):
        fields = torch.stack((r.before, r.size, r.hits, r.hits_before), 2)
        for row, each in zip(r.query.tolist(), fields, strict=True):
            found[row] = each[each[:, 0].isfinite()].tolist()
    return found


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
    assert results[0] == results[1]


@pytest.mark.parametrize("open_", [0.2, 0.02])
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("other", [False, True])
def test_what_was_set_aside_wrongly_is_counted_anew(
    other: bool, share: float, open_: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the places of a query may be set aside, and the others be left to float32."""
    samples = clustered(3.0)
    gallery = clustered(3.0, seed=2) if other else None
    monkeypatch.setattr(ranks, "_LARGEST", 64)
    expected = places(samples, gallery, memory=1 << 30)
    assert sum(map(len, expected.values())) > 200
    aside: list[int] = []
    random = torch.Generator().manual_seed(0)

    def some(tally: Tally, _: float) -> None:
        tally.aside.copy_(tally.wanted & (torch.rand(tally.limit.shape, generator=random) < share))
        aside.append(int(tally.aside.sum()))

    monkeypatch.setattr(Tally, "set_aside", some)
    monkeypatch.setattr(screening, "_OPEN", open_)
    assert places(samples, gallery, memory=1 << 30) == expected
    assert sum(aside) > 300


def test_what_lies_far_beyond_its_limit_is_set_aside() -> None:
    """A tenth of all is counted, so 100 above are about 1,000 in the end."""
    limit = torch.tensor([[100, 200, 300, 99, 3]], dtype=torch.int32)
    tally = Tally.of(torch.zeros(1, 5), limit)
    tally.above.copy_(torch.tensor([[100, 100, 100, 100, 31]]))
    tally.set_aside(0.1)
    # The first and the fourth are proved to lie beyond already, the last is too few to tell.
    assert tally.aside.tolist() == [[False, True, False, False, False]]
