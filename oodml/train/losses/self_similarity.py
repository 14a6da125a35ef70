"""Contrast of an image with itself: one view's key among the keys of many other images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oodml.train.mining import DistanceWeighted


def distance_weighted_contrast(
    queries: Tensor,
    keys: Tensor,
    queue: Tensor,
    *,
    temperature: float,
    cutoff: float = 0.5,
    upper: float = 1.4,
) -> Tensor:
    """Mean of -log(exp(q k / T) / (exp(q k / T) + sum_j exp(w_j q k_j / T))), arXiv:2004.13458.

    `queries` and their `keys` are unit vectors (B, d), `queue` (K, d) the keys k_j of others; no
    gradient reaches keys. w_j is the distance-weighted miner's weight of k_j over the largest of
    its query, 0 from distance `upper` on. The published code divides the weights by a sum, at
    first over the queries and later over the queue; divided by the largest, keys at equal
    distances count fully, and the loss of a queue of K copies of the key is ln(K + 1).
    """
    keys, queue = keys.detach(), queue.detach()
    positive = (queries * keys).sum(1, keepdim=True)
    negative = queries @ queue.T
    weights = _weights(negative.detach(), queries.shape[1], cutoff, upper)
    logits = torch.cat([positive, negative * weights], dim=1) / temperature
    first = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    return functional.cross_entropy(logits, first)


def _weights(cosines: Tensor, dimension: int, cutoff: float, upper: float) -> Tensor:
    """Weights (B, K) of which the largest of every row is 1; 0 all along where none is allowed."""
    distances = (2 - 2 * cosines).clamp(min=0).sqrt()
    logits = DistanceWeighted(cutoff, upper).log_weights(distances, dimension)
    logits = logits.masked_fill(distances >= upper, -torch.inf)
    if not logits.shape[1]:
        return logits
    largest = logits.amax(1, keepdim=True)
    return (logits - largest.nan_to_num(neginf=0.0)).exp()
