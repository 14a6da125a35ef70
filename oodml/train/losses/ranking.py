"""Losses that smooth the order in which an anchor finds the other samples.

Cosines and masks are matrices (B, R), anchors by references; a loss is a scalar.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oodml.errors import unknown_name
from oodml.train.methods.parts.over_pairs import mean_where

PENALTIES = ("O", "Iu", "Ib", "Ds", "Dq")


def smooth_average_precision(
    cosines: Tensor, positive: Tensor, negative: Tensor, *, temperature: float
) -> Tensor:
    """1 - average precision with every step of a rank a sigmoid (arXiv:2007.12163).

    The anchor counts among its own positives, as in the authors' code; anchors without another
    sample of their class are left out. Classes may have any size and order;
    pytorch-metric-learning 2.9 is right for as many classes as samples of each only.
    """
    anchor, ahead = _ahead(cosines, ~negative, temperature)
    rank = 1 + ahead.sum(1)
    among_positives = 1 + torch.where(negative[anchor], 0.0, ahead).sum(1)
    precision = _mean_of_each(among_positives / rank, anchor, len(cosines))
    return mean_where(1 - precision, positive.any(1))


def penalized_negatives(
    cosines: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    temperature: float,
    penalty: str,
    alpha: float,
    base: float,
) -> Tensor:
    """A penalty on the smoothed number of negatives before every positive (arXiv:2102.04640).

    The anchor counts among its own positives. `penalty` is the paper's name of the function of
    the number R: O is R, Iu (1+R) log(1+R), Ib (bR - log(1+bR)) / b^2, Ds log(1+R), Dq
    1 - 1 / (1+R)^alpha.
    """
    anchor, ahead = _ahead(cosines, ~negative, temperature)
    before = torch.where(negative[anchor], ahead, 0.0).sum(1)
    penalties = _penalized(before, penalty, alpha, base)
    return _mean_of_each(penalties, anchor, len(cosines)).mean()


def _ahead(cosines: Tensor, relevant: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    # One row for every pair that is relevant, not for every pair: (P, B), not (B, B, B).
    anchor, found = relevant.nonzero(as_tuple=True)
    rows = cosines[anchor]
    ahead = torch.sigmoid((rows - cosines[anchor, found][:, None]) / temperature)
    itself = torch.zeros_like(ahead, dtype=torch.bool).scatter_(1, found[:, None], True)
    return anchor, ahead.masked_fill(itself, 0.0)


def _mean_of_each(values: Tensor, anchor: Tensor, anchors: int) -> Tensor:
    sums = values.new_zeros(anchors).index_add(0, anchor, values)
    return sums / torch.bincount(anchor, minlength=anchors).clamp(min=1)


def _penalized(before: Tensor, penalty: str, alpha: float, base: float) -> Tensor:
    if penalty == "O":
        return before
    if penalty == "Iu":
        return (1 + before) * (1 + before).log()
    if penalty == "Ib":
        return (base * before - (1 + base * before).log()) / base**2
    if penalty == "Ds":
        return (1 + before).log()
    if penalty == "Dq":
        return 1 - (1 + before) ** -alpha
    raise unknown_name("penalty", penalty, PENALTIES)


def histogram(cosines: Tensor, positive: Tensor, negative: Tensor, *, bins: int) -> Tensor:
    """The chance that a random negative is more similar than a random positive (arXiv:1611.00822).

    Both densities are histograms on [-1, 1] with linear interpolation between `bins` + 1 nodes.
    """
    below = _density(cosines[positive], bins).cumsum(0)
    return (_density(cosines[negative], bins) * below).sum()


def _density(values: Tensor, bins: int) -> Tensor:
    # Cosines of unit vectors exceed 1 by a rounding; they belong to the last bin.
    position = ((values + 1) * (bins / 2)).clamp(0, bins)
    node = position.detach().floor().clamp(max=bins - 1)
    share = position - node
    index = node.long()
    density = values.new_zeros(bins + 1).index_add(0, index, 1 - share)
    return density.index_add(0, index + 1, share) / max(len(values), 1)
