"""Decorrelation: learners that are kept from telling the same of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.reversal import reverse_gradient

HIDDEN = 512


class AdversarialDecorrelation(nn.Module):
    """One regressor for every two learners, from the larger to the smaller (arXiv:1801.04815).

    It learns to make the squared product of its guess and the smaller learner's output large; the
    gradients of both outputs are reversed, so the learners make it small. Unlike `Adversary`,
    neither side has unit length, so `penalty` holds the weights.
    """

    def __init__(self, sizes: Sequence[int], hidden: int = HIDDEN) -> None:
        super().__init__()
        self.pairs = list(combinations(range(len(sizes)), 2))
        self.regressors = nn.ModuleList(
            nn.Sequential(
                nn.Linear(sizes[source], hidden), nn.ReLU(), nn.Linear(hidden, sizes[target])
            )
            for target, source in self.pairs
        )
        for layer in self._layers():
            start_at_unit_rows(layer)
            nn.init.zeros_(layer.bias)

    def _layers(self) -> list[nn.Linear]:
        return [layer for layer in self.regressors.modules() if isinstance(layer, nn.Linear)]

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Minus the mean squared products of learners' outputs (B, d_m), summed over the pairs."""
        value = parts[0].new_zeros(())
        for (target, source), regressor in zip(self.pairs, self.regressors, strict=True):
            guess = regressor(reverse_gradient(parts[source]))
            value = value - (reverse_gradient(parts[target]) * guess).square().mean()
        return value

    def penalty(self) -> Tensor:
        """What the regressors' weights and biases are away from the lengths they may have."""
        away = [unit_rows(layer.weight) + short(layer.bias) for layer in self._layers()]
        return torch.stack(away).sum()


class ActivationDecorrelation(nn.Module):
    """The same without an adversary: products of any two dimensions of two learners are small."""

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """The mean squared product over samples and pairs of dimensions, summed over learners."""
        # The mean over all pairs of dimensions of (f_k g_l)^2 is the product of the means.
        energy = [part.square().mean(dim=1) for part in parts]
        products = [(one * other).mean() for one, other in combinations(energy, 2)]
        return torch.stack(products).sum()

    def penalty(self) -> Tensor:
        """Nothing: there are no weights."""
        return torch.zeros(())


@torch.no_grad()
def start_at_unit_rows(layer: nn.Linear) -> None:
    """Bring every row of the weights to length 1, so that the penalty does not drown the start."""
    layer.weight.copy_(functional.normalize(layer.weight, dim=1))


def unit_rows(weight: Tensor) -> Tensor:
    """The mean squared difference of the rows' squared lengths from 1.

    `weight` is (k, d); the difference is a scalar.
    """
    return (weight.square().sum(dim=1) - 1).square().mean()


def short(bias: Tensor) -> Tensor:
    """By how much the squared length is above 1.

    `bias` is (k,); the result is a scalar.
    """
    return (bias.square().sum() - 1).clamp(min=0)
