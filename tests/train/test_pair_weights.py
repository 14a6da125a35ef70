"""The pair-weight view against the derivatives that the formulas give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from oodml.errors import DataError
from oodml.eval.figures.pair_weights import FILE, BinnedWeights, PairWeights
from oodml.train.loop import seeded
from oodml.train.objective import Criterion, as_criterion
from oodml.train.pair_weights import pair_weights
from oodml.train.registry import get_method

LABELS = torch.arange(12) // 3


def output(seed: int = 0) -> torch.Tensor:
    with seeded(seed, "output"):
        return torch.randn(12, 5)


def weights_of(name: str, **hyperparameters: object) -> PairWeights:
    with seeded(0, "loss"):
        built = get_method(name).build_with(4, 5, hyperparameters)
    return pair_weights(as_criterion(built), output(), LABELS, 4)


def test_contrastive_weights_are_the_slope_of_the_distance() -> None:
    found = weights_of("contrastive")
    distance = np.sqrt(2 - 2 * found.similarity)
    positive, violating = found.positive, ~found.positive & (distance < 1)
    # Each pair stands twice in the batch, and d distance / d similarity = -1 / distance.
    expected = np.zeros(len(distance))
    expected[positive] = -1 / distance[positive] / positive.sum()
    expected[violating] = 1 / distance[violating] / violating.sum()
    assert violating.any() and found.partner == "sample"
    np.testing.assert_allclose(found.weight, expected, rtol=1e-4, atol=1e-9)


def test_multi_similarity_weights_are_those_of_its_paper() -> None:
    """arXiv:1904.06627, equations 8 and 10, with the miner switched off."""
    built = get_method("multi_similarity").build(4, 5)
    found = pair_weights(Criterion(built.loss), output(), LABELS, 4)
    unit = functional.normalize(output().double(), dim=1)
    s = (unit @ unit.T).numpy()
    same = (LABELS[:, None] == LABELS[None, :]).numpy() & ~np.eye(12, dtype=bool)
    other = LABELS[:, None].numpy() != LABELS[None, :].numpy()
    pull = np.where(same, np.exp(-2 * (s - 0.5)), 0)
    push = np.where(other, np.exp(50 * (s - 0.5)), 0)
    weight = push / (1 + push.sum(1, keepdims=True)) - pull / (1 + pull.sum(1, keepdims=True))
    expected = ((weight + weight.T) / 12)[np.triu_indices(12, 1)]
    np.testing.assert_allclose(found.weight, expected, rtol=2e-3, atol=1e-9)


def test_softmax_weights_are_probabilities_less_one_at_the_own_class() -> None:
    with seeded(0, "loss"):
        built = as_criterion(get_method("arcface").build(4, 5, margin=0.0, scale=7.0))
    found = pair_weights(built, output(), LABELS, 4)
    cosines = torch.from_numpy(found.similarity).reshape(12, 4)
    expected = 7.0 * (torch.softmax(7.0 * cosines, 1) - functional.one_hot(LABELS, 4)) / 12
    np.testing.assert_allclose(found.weight, expected.flatten().numpy(), rtol=1e-3, atol=1e-7)
    assert found.partner == "proxy" and found.positive.sum() == 12


def test_a_positive_pair_is_pulled_and_a_negative_one_pushed() -> None:
    for name in ("proxy_anchor", "margin", "normalized_softmax"):
        found = weights_of(name)
        assert (found.weight[found.positive] <= 1e-12).all(), name
        assert (found.weight[~found.positive] >= -1e-12).all(), name
        assert (found.weight != 0).any(), name
    centers = weights_of("soft_triple")
    assert centers.partner == "proxy" and centers.positive.sum() == 12 * len(centers.weight) / 48


def test_a_loss_that_is_no_sum_over_pairs_is_refused() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(5))

        def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return (embeddings[:, :5] @ self.weight[:5, :5]).sum() + self.weight.sum()

    with pytest.raises(DataError):
        pair_weights(Criterion(Plain()), output(), LABELS, 4)


def test_bins_keep_counts_and_extents_and_survive_the_disk(tmp_path: Path) -> None:
    found = weights_of("contrastive")
    binned = found.binned()
    assert sum(b.pairs for b in binned.positive) == found.positive.sum() == 12
    assert sum(b.pairs for b in binned.negative) == 54
    for b in binned.negative:
        inside = ~found.positive & (found.similarity >= b.low) & (found.similarity < b.low + 0.05)
        assert b.mean == pytest.approx(found.weight[inside].mean())
        assert b.most == found.weight[inside].max()
    binned.save(tmp_path / FILE)
    assert BinnedWeights.load(tmp_path / FILE) == binned
    (tmp_path / FILE).write_text('{"partner": "sample"}')
    with pytest.raises(DataError, match="no pair weights"):
        BinnedWeights.load(tmp_path / FILE)
