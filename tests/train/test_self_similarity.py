"""Contrast with distance-weighted negatives."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from oodml.train.methods.diva import distance_weighted_contrast


def unit(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=random), dim=1)


@pytest.mark.parametrize(("copies", "expected"), [(7, 2.0794), (1, log(2)), (0, 0.0)])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_a_queue_of_copies_of_the_key_costs_the_logarithm_of_their_number(
    copies: int, expected: float, temperature: float
) -> None:
    # methods.md 5.7 and 6.2: ln(K + 1), K = 7: 2.0794.
    query, key = unit(1, 8), unit(1, 8, seed=1)
    loss = distance_weighted_contrast(query, key, key.expand(copies, 8), temperature=temperature)
    assert loss.item() == pytest.approx(expected, abs=1e-4)


def test_the_loss_is_that_of_its_formula() -> None:
    """In 3 dimensions the weight is 1/D; the nearest one's is 1 after each query's division."""
    queries, keys, queue = unit(4, 3), unit(4, 3, seed=1), unit(9, 3, seed=2)
    losses = []
    for query, key in zip(queries.tolist(), keys.tolist(), strict=True):
        cosines = [sum(a * b for a, b in zip(query, each, strict=True)) for each in queue.tolist()]
        distances = [max((2 - 2 * cosine) ** 0.5, 0.5) for cosine in cosines]
        inverse = [0.0 if distance >= 1.4 else 1 / distance for distance in distances]
        weights = [each / max(inverse) if max(inverse) else 0.0 for each in inverse]
        own = sum(a * b for a, b in zip(query, key, strict=True))
        total = exp(own / 0.3) + sum(
            exp(weight * cosine / 0.3) for weight, cosine in zip(weights, cosines, strict=True)
        )
        losses.append(-log(exp(own / 0.3) / total))
    found = distance_weighted_contrast(queries, keys, queue, temperature=0.3)
    assert found.item() == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_weights_are_normalised_for_each_query_by_itself() -> None:
    """The loss of a batch is the mean of its queries' losses, whoever else is in it."""
    queries, keys, queue = unit(5, 16), unit(5, 16, seed=1), unit(20, 16, seed=2)
    together = distance_weighted_contrast(queries, keys, queue, temperature=0.1)
    alone = [
        distance_weighted_contrast(queries[i : i + 1], keys[i : i + 1], queue, temperature=0.1)
        for i in range(5)
    ]
    assert torch.allclose(together, torch.stack(alone).mean())


def test_keys_beyond_the_cut_off_have_no_logit() -> None:
    query = torch.tensor([[1.0, 0.0, 0.0]])
    far = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = distance_weighted_contrast(query, query, far, temperature=0.5)
    assert found.item() == pytest.approx(log(exp(2) + 2) - 2, rel=1e-5)


def test_only_queries_get_a_gradient() -> None:
    queries, keys, queue = (unit(4, 6, seed=i).requires_grad_() for i in range(3))
    distance_weighted_contrast(queries, keys, queue, temperature=0.1).backward()
    assert queries.grad is not None and queries.grad.isfinite().all()
    assert keys.grad is None and queue.grad is None
