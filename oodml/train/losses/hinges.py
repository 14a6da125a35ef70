"""Losses that are hinges on every pair's distance or similarity.

Values and masks are matrices (B, R), anchors by references; a loss is a scalar.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oodml.errors import unknown_name
from oodml.train.methods.parts.over_pairs import log_sum_exp, mean_where

REDUCTIONS = ("violating", "pairs", "anchors")


def contrastive(
    values: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    positive_margin: float,
    negative_margin: float,
    reduction: str,
) -> Tensor:
    """[D - m_p]+ of positives plus [m_n - D]+ of negatives.

    Both are averaged over the pairs that violate their margin ("violating"), over all pairs
    ("pairs"), or summed and divided by the number of anchors ("anchors").
    """
    pull = functional.relu(values - positive_margin)
    push = functional.relu(negative_margin - values)
    return reduced(pull, positive, reduction) + reduced(push, negative, reduction)


def reduced(terms: Tensor, chosen: Tensor, reduction: str) -> Tensor:
    """One number from the non-negative terms (B, R) of the chosen pairs."""
    if reduction == "violating":
        return mean_where(terms, chosen & (terms > 0))
    if reduction == "pairs":
        return mean_where(terms, chosen)
    if reduction == "anchors":
        return torch.where(chosen, terms, 0.0).sum() / len(terms)
    raise unknown_name("reduction", reduction, REDUCTIONS)


def threshold_consistent(
    cosines: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    positive_margin: float,
    negative_margin: float,
    positive_weight: float,
    negative_weight: float,
) -> Tensor:
    """Mean gap of the positives below one similarity and of the negatives above another.

    arXiv:2307.04047: the hard pairs only, so that one threshold suits all classes.
    """
    pull = functional.relu(positive_margin - cosines)
    push = functional.relu(cosines - negative_margin)
    return positive_weight * reduced(pull, positive, "violating") + negative_weight * reduced(
        push, negative, "violating"
    )


def ranked_list(
    distances: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float,
    alpha: float,
    positive_temperature: float,
    negative_temperature: float,
    imbalance: float,
) -> Tensor:
    """Positives inside the radius alpha - margin, negatives outside alpha (arXiv:1903.03238).

    Every violation counts with weight exp(T * violation), normalised over its anchor's.
    """
    pull = _weighted(distances - (alpha - margin), positive, positive_temperature)
    push = _weighted(alpha - distances, negative, negative_temperature)
    return ((1 - imbalance) * pull + imbalance * push).mean()


def _weighted(violation: Tensor, chosen: Tensor, temperature: float) -> Tensor:
    chosen = chosen & (violation > 0)
    logits = temperature * violation
    weights = (logits - log_sum_exp(logits, chosen)[:, None]).where(chosen, -torch.inf).exp()
    return (weights * violation).sum(1)


def signal_to_noise(anchors: Tensor, references: Tensor) -> Tensor:
    """Variance of the difference over that of the anchor, (B, R) (arXiv:1904.02616).

    The variances go over the dimensions of a vector; the matrix is not symmetric.
    """
    noise = _variance_of_differences(anchors, references)
    signal = anchors.var(dim=1).clamp(min=torch.finfo(anchors.dtype).eps)
    return noise / signal[:, None]


def _variance_of_differences(anchors: Tensor, references: Tensor) -> Tensor:
    # Far cheaper than the differences (B, R, D) themselves: 17 ms against 1 for B = 112, D = 128.
    left = anchors - anchors.mean(1, keepdim=True)
    right = references - references.mean(1, keepdim=True)
    squares = left.square().sum(1)[:, None] + right.square().sum(1)[None, :]
    return (squares - 2 * left @ right.T).clamp(min=0) / (anchors.shape[1] - 1)
