"""Losses that are smooth versions of a metric of the whole ranking of an anchor.

Cosines and masks are matrices (B, R), anchors by references.
"""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses
from torch import Tensor

from oodml.errors import unknown_name
from oodml.train.methods.parts.over_pairs import OverPairs, cosines, mean_where
from oodml.train.objective import Criterion
from oodml.train.registry import method

PENALTIES = ("O", "Iu", "Ib", "Ds", "Dq")


@method(
    "fast_ap",
    paper="10.1109/CVPR.2019.00196",
    source="pytorch-metric-learning",
)
def fast_ap(num_classes: int, embedding_dim: int, *, bins: int = 10) -> Criterion:
    """FastAP: average precision from soft histograms of squared distances on the unit sphere."""
    return Criterion(losses.FastAPLoss(bins), takes_pairs=True)


@method("smooth_ap", paper="arXiv:2007.12163", source="arXiv:2007.12163")
class SmoothAveragePrecision(OverPairs):
    """Smooth-AP: average precision with a sigmoid in place of each comparison of two similarities.

    As in the authors' code the anchor counts as its own positive; anchors without another sample of
    their class are left out. Classes may have any size and order; pytorch-metric-learning 2.9 is
    correct only for as many classes as samples of each.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, temperature: float = 0.01) -> None:
        super().__init__(cosines)
        self.temperature = temperature

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean over anchors of 1 - average precision."""
        anchor, ahead = _ahead(values, ~negative, self.temperature)
        rank = 1 + ahead.sum(1)
        among_positives = 1 + torch.where(negative[anchor], 0.0, ahead).sum(1)
        precision = _mean_of_each(among_positives / rank, anchor, len(values))
        return mean_where(1 - precision, positive.any(1))


@method("pnp", paper="arXiv:2102.04640", source="pytorch-metric-learning")
class PenalizedNegatives(OverPairs):
    """PNP: a penalty on the number of negatives ranked before each positive.

    The anchor counts as its own positive. `penalty` is the paper's name of the function of the
    smoothed number R of negatives before a positive: O is R, Iu (1+R) log(1+R), Ib (bR - log(1+bR))
    / b^2 with `base` b, Ds log(1+R), Dq 1 - 1 / (1+R)^alpha.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        temperature: float = 0.01,
        penalty: str = "O",
        alpha: float = 1.0,
        base: float = 2.0,
    ) -> None:
        super().__init__(cosines)
        if penalty not in PENALTIES:
            raise unknown_name("penalty", penalty, PENALTIES)
        self.temperature, self.penalty = temperature, penalty
        self.alpha, self.base = alpha, base

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean over anchors of the mean penalty of their positives."""
        anchor, ahead = _ahead(values, ~negative, self.temperature)
        before = torch.where(negative[anchor], ahead, 0.0).sum(1)
        return _mean_of_each(self._penalized(before), anchor, len(values)).mean()

    def _penalized(self, before: Tensor) -> Tensor:
        if self.penalty == "O":
            return before
        if self.penalty == "Iu":
            return (1 + before) * (1 + before).log()
        if self.penalty == "Ib":
            return (self.base * before - (1 + self.base * before).log()) / self.base**2
        if self.penalty == "Ds":
            return (1 + before).log()
        return 1 - (1 + before) ** -self.alpha


@method("histogram", paper="arXiv:1611.00822", source="pytorch-metric-learning")
class Histogram(OverPairs):
    """Histogram loss: the probability that a negative pair is more similar than a positive pair.

    Both densities are histograms on [-1, 1] with linear interpolation between `bins` + 1 nodes.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, bins: int = 100) -> None:
        super().__init__(cosines)
        self.bins = bins

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The sum over bins of the negatives' density times the positives' distribution."""
        below = _density(values[positive], self.bins).cumsum(0)
        return (_density(values[negative], self.bins) * below).sum()


def _ahead(cosines: Tensor, relevant: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    # One row per relevant pair, (P, B), in place of all triples, (B, B, B).
    anchor, found = relevant.nonzero(as_tuple=True)
    rows = cosines[anchor]
    ahead = torch.sigmoid((rows - cosines[anchor, found][:, None]) / temperature)
    itself = torch.zeros_like(ahead, dtype=torch.bool).scatter_(1, found[:, None], True)
    return anchor, ahead.masked_fill(itself, 0.0)


def _mean_of_each(values: Tensor, anchor: Tensor, anchors: int) -> Tensor:
    sums = values.new_zeros(anchors).index_add(0, anchor, values)
    return sums / torch.bincount(anchor, minlength=anchors).clamp(min=1)


def _density(values: Tensor, bins: int) -> Tensor:
    # Rounding makes some cosines of unit vectors exceed 1; they belong to the last bin.
    position = ((values + 1) * (bins / 2)).clamp(0, bins)
    node = position.detach().floor().clamp(max=bins - 1)
    share = position - node
    index = node.long()
    density = values.new_zeros(bins + 1).index_add(0, index, 1 - share)
    return density.index_add(0, index + 1, share) / max(len(values), 1)
