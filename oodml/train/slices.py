"""Slices: an embedding cut into parts that are heads of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from oodml.errors import UsageError


def slice_sizes(dimension: int, shares: Sequence[int]) -> list[int]:
    """The sizes of slices in the ratio of `shares` that make up `dimension`, as near as can be.

    Raises `UsageError` where a slice would have no dimension.

    >>> slice_sizes(512, [3, 5, 8])
    [96, 160, 256]
    """
    total = sum(shares)
    borders = [dimension * sum(shares[:number]) / total for number in range(len(shares) + 1)]
    sizes = [round(after) - round(before) for before, after in pairwise(borders)]
    if not sizes or min(sizes) < 1:
        raise UsageError(
            f"an embedding of {dimension} dimensions has no {len(shares)} heads in the ratio "
            f"{'-'.join(map(str, shares))}; give fewer, or a larger --embedding-dim."
        )
    return sizes


def shares_in(text: str) -> list[int]:
    """The numbers of "3-5-8"; `UsageError` for anything else."""
    parts = text.split("-")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"{text!r} is no ratio of heads: write whole numbers as 3-5-8.")
    return [int(part) for part in parts]


def unit_slices(output: Tensor, sizes: Sequence[int], weights: Sequence[float]) -> Tensor:
    """Each slice of an output (B, D) at unit length times its weight, the whole at unit length.

    The cosine of two of them is the mean of the slices' cosines weighted by the squared weights.
    The gradient of a slice comes from that slice alone.
    """
    length = math.hypot(*weights)
    units = [functional.normalize(part, dim=1) for part in torch.split(output, list(sizes), dim=1)]
    return torch.cat([w / length * unit for w, unit in zip(weights, units, strict=True)], dim=1)
