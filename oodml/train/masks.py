"""Masks over the dimensions of an embedding, one for each learner."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from oodml.errors import UsageError


def halving_masks(dimension: int, depth: int) -> list[Tensor]:
    """Masks of 0 and 1 by level: (1, d) of ones, its halves (2, d), their halves (4, d), ...

    The masks of a level are disjoint and cover all dimensions; rows 2 c and 2 c + 1 divide row c of
    the level above. Raises `UsageError` for more masks than dimensions.
    """
    if 2**depth > dimension:
        raise UsageError(
            f"{2**depth} fixed masks do not divide an embedding of {dimension} dimensions; "
            "give fewer clusters or a larger --embedding-dim."
        )
    place = torch.arange(dimension)
    borders = [0, dimension]
    levels = []
    for _ in range(depth + 1):
        rows = [(place >= low) & (place < high) for low, high in pairwise(borders)]
        levels.append(torch.stack(rows).float())
        borders = [
            *(b for low, high in pairwise(borders) for b in (low, (low + high) // 2)),
            dimension,
        ]
    return levels


def mean_cosine(masks: Tensor) -> Tensor:
    """The mean cosine of two different masks (k, d), k at least 2: 0 if they are disjoint."""
    unit = functional.normalize(masks, dim=1)
    cosines = unit @ unit.T
    number = len(masks)
    return (cosines.sum() - cosines.diagonal().sum()) / (number * (number - 1))
