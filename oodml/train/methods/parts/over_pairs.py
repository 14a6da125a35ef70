"""Losses over pairs: one value per pair, and masks that say which pairs count.

A loss over pairs is a function of three matrices (B, R): the value of every pair of an anchor and a
reference, and the boolean masks `positive` (two samples of one class) and `negative` (of two).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.objective import Criterion

Masks = tuple[Tensor, Tensor]


class OverPairs(Criterion):
    """A loss as a function of the matrix of a batch's pairs.

    `matrix(anchors, references)` gives the value of every pair, from which a subclass computes the
    loss in `of_pairs`. The tuples of a miner, (anchors, positives, negatives) or (anchors,
    positives, anchors, negatives), say which pairs count; without them all do. References with
    their labels replace the batch on the other side of every pair. A loss `within` the batch, which
    needs all pairs of both samples of a pair, takes no references.
    """

    def __init__(
        self,
        matrix: Callable[[Tensor, Tensor], Tensor],
        miner: nn.Module | None = None,
        *,
        within: bool = False,
        normalized: bool = True,
    ) -> None:
        super().__init__(
            miner=miner, normalized=normalized, takes_pairs=True, takes_references=not within
        )
        self.matrix = matrix

    @abstractmethod
    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The scalar loss of values (B, R) and the masks of positive and of negative pairs."""

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        tuples: tuple[Tensor, ...] | None = None,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
    ) -> Tensor:
        """The scalar loss of embeddings (B, D) with labels (B,)."""
        if references is not None and not self.takes_references:
            raise NotImplementedError("this loss compares samples of one batch only.")
        values = self.matrix(embeddings, embeddings if references is None else references)
        if tuples is None:
            positive, negative = pairs_of(labels, reference_labels)
        else:
            positive, negative = pairs_in(tuples, values)
        return self.of_pairs(values, positive, negative)


def pairs_of(labels: Tensor, reference_labels: Tensor | None = None) -> Masks:
    """Masks (B, R) of all positive and all negative pairs; no sample is paired with itself."""
    others = labels if reference_labels is None else reference_labels
    same = labels[:, None] == others[None, :]
    negative = ~same
    if reference_labels is None:
        same.fill_diagonal_(False)
    return same, negative


def pairs_in(tuples: tuple[Tensor, ...], values: Tensor) -> Masks:
    """Masks of the shape of `values` of the pairs in mined triplets (3) or pairs (4)."""
    anchors, positives, *rest = tuples
    negatives = rest[-1]
    others = anchors if len(rest) == 1 else rest[0]
    positive = torch.zeros_like(values, dtype=torch.bool)
    negative = positive.clone()
    positive[anchors, positives] = True
    negative[others, negatives] = True
    return positive, negative


def cosines(anchors: Tensor, references: Tensor) -> Tensor:
    """Inner products (B, R), which of unit vectors are cosines."""
    return anchors @ references.T


def distances(anchors: Tensor, references: Tensor) -> Tensor:
    """Euclidean distances (B, R), with gradient 0 where a distance is 0."""
    return torch.cdist(anchors, references)


def squared_distances(anchors: Tensor, references: Tensor) -> Tensor:
    """Squared Euclidean distances (B, R)."""
    lengths = anchors.square().sum(1)[:, None] + references.square().sum(1)[None, :]
    return (lengths - 2 * anchors @ references.T).clamp(min=0)


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen values; 0, with gradient 0, where none is chosen."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)


def log_sum_exp(values: Tensor, chosen: Tensor) -> Tensor:
    """log sum exp over the chosen values of every row; about -8e37 for a row without any."""
    # Not -inf itself: the difference of two rows without any would be NaN.
    lowest = torch.finfo(values.dtype).min / 4
    return torch.where(chosen, values, lowest).logsumexp(1)


class SoftmaxOfPairs(OverPairs):
    """Mean over positive pairs of -log(e^(s_ap/T) / (e^(s_ap/T) + sum_n e^(s_an/T))) of cosines."""

    def __init__(self, miner: nn.Module | None = None, *, temperature: float) -> None:
        super().__init__(cosines, miner)
        self.temperature = temperature

    def of_pairs(self, values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean loss over positive pairs."""
        logits = values / self.temperature
        against = log_sum_exp(logits, negative)
        return mean_where(functional.softplus(against[:, None] - logits), positive)
