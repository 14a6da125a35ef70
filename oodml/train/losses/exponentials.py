"""Losses that weigh an anchor's pairs by exponentials: the hardest pairs count most.

Values and masks are matrices (B, R), anchors by references; a loss is a scalar.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from oodml.train.methods.parts.over_pairs import log_sum_exp, mean_where


def lifted_structure(
    distances: Tensor, positive: Tensor, negative: Tensor, *, margin: float
) -> Tensor:
    """Half the mean of [J]+^2 over positive pairs, original form (arXiv:1511.06452).

    J_ij = D_ij + log(sum_k exp(m - D_ik) + sum_k exp(m - D_jk)), k over the negatives of i and
    of j.
    """
    push = log_sum_exp(margin - distances, negative)
    hardness = distances + torch.logaddexp(push[:, None], push[None, :])
    return mean_where(functional.relu(hardness).square() / 2, positive)


def generalized_lifted_structure(
    distances: Tensor, positive: Tensor, negative: Tensor, *, margin: float
) -> Tensor:
    """Mean over anchors of [log sum_p exp D_ap + log sum_n exp(m - D_an)]+ (arXiv:1703.07737)."""
    pull = log_sum_exp(distances, positive)
    push = log_sum_exp(margin - distances, negative)
    anchors = positive.any(1) & negative.any(1)
    return mean_where(functional.relu(pull + push), anchors)


def nt_xent(
    similarities: Tensor, positive: Tensor, negative: Tensor, *, temperature: float
) -> Tensor:
    """Mean over positive pairs of -log(e^(s_ap/T) / (e^(s_ap/T) + sum_n e^(s_an/T)))."""
    logits = similarities / temperature
    against = log_sum_exp(logits, negative)
    return mean_where(functional.softplus(against[:, None] - logits), positive)


def tuplet_margin(
    cosines: Tensor, positive: Tensor, negative: Tensor, *, margin: float, scale: float
) -> Tensor:
    """Mean over positive pairs of log(1 + sum_n exp(scale (cos t_an - cos(t_ap - margin)))).

    The angle `margin` (radians) is slack: pairs closer than it are pushed no further.
    """
    # cos(t - m) = cos t cos m + sin t sin m; the floor keeps the root's gradient finite at t = 0.
    sines = (1 - cosines.square()).clamp(min=1e-6).sqrt()
    eased = cosines * math.cos(margin) + sines * math.sin(margin)
    against = log_sum_exp(scale * cosines, negative)
    return mean_where(functional.softplus(against[:, None] - scale * eased), positive)


def neighbourhood_components(
    squared_distances: Tensor, positive: Tensor, negative: Tensor, *, scale: float
) -> Tensor:
    """Mean over anchors of -log of the probability that a soft neighbour is of their class."""
    logits = -scale * squared_distances
    chance = log_sum_exp(logits, positive | negative) - log_sum_exp(logits, positive)
    return mean_where(chance, positive.any(1))
