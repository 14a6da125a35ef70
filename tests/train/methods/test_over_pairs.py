"""Batches without pairs, and batches that have collapsed, under every loss over pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from oodml.train.methods.parts.over_pairs import (
    OverPairs,
    log_sum_exp,
    mean_where,
    pairs_in,
    pairs_of,
)
from oodml.train.registry import all_methods

BUILT = {
    name: entry.build(4, 5)
    for name, entry in all_methods().items()
    if isinstance(entry.build, type) and issubclass(entry.build, OverPairs)
}
LOSSES = {
    **BUILT,
    "nt_xent": all_methods()["nt_xent"].build(4, 5, temperature=0.01),
    "pnp": all_methods()["pnp"].build(4, 5, penalty="Iu"),
    "threshold_consistent_margin": all_methods()["threshold_consistent_margin"]
    .build(4, 5)
    .regularizer,
}
NO_PAIR, ONE_CLASS = torch.arange(8), torch.zeros(8, dtype=torch.long)
CLASSES = torch.arange(4).repeat(2)
RANDOM = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
POINTS = {
    "random": functional.normalize(RANDOM, dim=1),
    "one axis": torch.eye(5)[torch.zeros(8, dtype=torch.long)],
    "one diagonal": torch.full((8, 5), 5**-0.5),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("labels", [NO_PAIR, ONE_CLASS, CLASSES], ids=["none", "one", "four"])
@pytest.mark.parametrize("points", ["random", "one axis", "one diagonal"])
def test_no_batch_yields_what_is_not_finite(name: str, labels: Tensor, points: str) -> None:
    embeddings = POINTS[points].clone().requires_grad_()
    value = LOSSES[name](embeddings, labels)
    value.backward()
    assert torch.isfinite(value.detach()) and torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    points = POINTS["random"]
    order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
    expected = float(LOSSES[name](points, CLASSES))
    assert float(LOSSES[name](points[order], CLASSES[order])) == pytest.approx(expected, rel=1e-4)


def test_pairs_are_those_of_one_class_and_of_two_but_none_of_a_sample_with_itself() -> None:
    positive, negative = pairs_of(torch.tensor([0, 0, 1]))
    assert positive.nonzero().tolist() == [[0, 1], [1, 0]]
    assert negative.nonzero().tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]
    positive, negative = pairs_of(torch.tensor([0, 1]), torch.tensor([0, 1, 1]))
    assert positive.nonzero().tolist() == [[0, 0], [1, 1], [1, 2]]
    assert negative.nonzero().tolist() == [[0, 1], [0, 2], [1, 0]]


def test_mined_tuples_say_which_pairs_count() -> None:
    values = torch.zeros(3, 4)
    one, two, three = (torch.tensor([index]) for index in (1, 2, 3))
    for tuples in ((one, two, three), (one, two, one, three)):
        positive, negative = pairs_in(tuples, values)
        assert positive.nonzero().tolist() == [[1, 2]]
        assert negative.nonzero().tolist() == [[1, 3]]


def test_means_and_sums_go_over_what_is_chosen() -> None:
    values = torch.tensor([[0.0, 1.0], [2.0, 700.0]], requires_grad=True)
    chosen = torch.tensor([[True, True], [False, False]])
    assert float(mean_where(values, chosen).detach()) == 0.5
    assert float(mean_where(values, ~chosen & False).detach()) == 0.0
    sums = log_sum_exp(values, chosen)
    assert float(sums[0].detach()) == pytest.approx(1.31326, abs=1e-5)
    assert -1e38 < float(sums[1].detach()) < -1e37  # Two such rows have a difference.
    sums.exp().sum().backward()
    assert torch.isfinite(values.grad).all() and values.grad[1].tolist() == [0.0, 0.0]
