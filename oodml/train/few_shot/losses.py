"""Losses of many episodes at once, from the cosines within each episode's batch.

Every episode has a batch of equally many classes with equally many samples each, class by class,
so that one pair of masks holds for all. Random choices come as uniform numbers drawn beforehand,
by every episode's own seed. Each loss equals that of the method of its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.registry import get_method, parse_method

# Keeps the largest uniform number below the whole of a cumulative sum after rounding.
_BELOW_ONE = 1 - 1e-6
_FAINTEST = -80.0
_LOWEST = torch.finfo(torch.float32).min / 4


class Pairs(NamedTuple):
    """Masks (B, B) of a batch's pairs of one class, the sample itself left out, and of two."""

    positive: Tensor
    negative: Tensor


class Triplets(NamedTuple):
    """The positive and the negative (E, B) of every anchor, and which anchors count."""

    positive: Tensor
    negative: Tensor
    kept: Tensor


Mine = Callable[[Tensor, Pairs, Tensor], Triplets]


def pairs_of_blocks(classes: int, samples: int) -> Pairs:
    """The masks of a batch of `classes` blocks of `samples` each."""
    of_class = torch.arange(classes).repeat_interleave(samples)
    same = of_class[:, None] == of_class[None, :]
    return Pairs(same & ~torch.eye(len(same), dtype=torch.bool), ~same)


class EpisodesLoss(nn.Module, ABC):
    """The losses (E,) of cosines (E, B, B), labels (E, B) and uniform numbers (E, 2, B)."""

    @abstractmethod
    def forward(self, cosines: Tensor, labels: Tensor, pairs: Pairs, draws: Tensor) -> Tensor:
        """The losses (E,), each of its own episode alone."""


class Margin(EpisodesLoss):
    """Margin loss with one boundary a class, or one in all, in every episode (arXiv:1706.07567)."""

    def __init__(self, beta: Tensor, margin: float, mine: Mine) -> None:
        super().__init__()
        self.beta = nn.Parameter(beta)
        self.margin = margin
        self.mine = mine

    def forward(self, cosines: Tensor, labels: Tensor, pairs: Pairs, draws: Tensor) -> Tensor:
        triplets = self.mine(cosines.detach(), pairs, draws)
        beta = self.beta if self.beta.shape[1] == 1 else self.beta.gather(1, labels)
        pull = functional.relu(_reach(cosines, triplets.positive) - beta + self.margin)
        push = functional.relu(beta - _reach(cosines, triplets.negative) + self.margin)
        pull, push = pull * triplets.kept, push * triplets.kept
        active = (pull > 0).sum(1) + (push > 0).sum(1)
        return (pull + push).sum(1) / active.clamp(min=1)


class Triplet(EpisodesLoss):
    """Triplet loss, averaged over the triplets that violate the margin (arXiv:1503.03832)."""

    def __init__(self, margin: float, mine: Mine) -> None:
        super().__init__()
        self.margin = margin
        self.mine = mine

    def forward(self, cosines: Tensor, labels: Tensor, pairs: Pairs, draws: Tensor) -> Tensor:
        triplets = self.mine(cosines.detach(), pairs, draws)
        gap = _reach(cosines, triplets.positive) - _reach(cosines, triplets.negative)
        violation = functional.relu(gap + self.margin) * triplets.kept
        return violation.sum(1) / (violation > 0).sum(1).clamp(min=1)


class Contrastive(EpisodesLoss):
    """Contrastive loss over the pairs that violate their margin (doi 10.1109/CVPR.2006.100)."""

    def __init__(self, positive_margin: float, negative_margin: float) -> None:
        super().__init__()
        self.margins = positive_margin, negative_margin

    def forward(self, cosines: Tensor, labels: Tensor, pairs: Pairs, draws: Tensor) -> Tensor:
        distances = _distances(cosines)
        pull = functional.relu(distances - self.margins[0]) * pairs.positive
        push = functional.relu(self.margins[1] - distances) * pairs.negative
        return _mean_of_active(pull) + _mean_of_active(push)


class MultiSimilarity(EpisodesLoss):
    """Multi-similarity loss over the pairs that its miner keeps (arXiv:1904.06627)."""

    def __init__(self, alpha: float, beta: float, base: float, epsilon: float) -> None:
        super().__init__()
        self.alpha, self.beta, self.base, self.epsilon = alpha, beta, base, epsilon

    def forward(self, cosines: Tensor, labels: Tensor, pairs: Pairs, draws: Tensor) -> Tensor:
        known = cosines.detach()
        nearest = known.masked_fill(~pairs.negative, -torch.inf).amax(2, keepdim=True)
        farthest = known.masked_fill(~pairs.positive, torch.inf).amin(2, keepdim=True)
        pulled = pairs.positive & (known - self.epsilon < nearest)
        pushed = pairs.negative & (known + self.epsilon > farthest)
        pull = _soft_maximum(self.alpha * (self.base - cosines), pulled) / self.alpha
        push = _soft_maximum(self.beta * (cosines - self.base), pushed) / self.beta
        return (pull + push).mean(1)


def distance_weighted(cutoff: float, upper: float, dimension: int) -> Mine:
    """A random positive, and a negative with weight 1 / q(D) (arXiv:1706.07567)."""

    def mine(cosines: Tensor, pairs: Pairs, draws: Tensor) -> Triplets:
        squared = torch.where(pairs.negative, 2 - 2 * cosines, torch.inf)
        allowed = squared < upper**2
        d = squared.clamp_(min=cutoff**2, max=(2 - 1e-4) ** 2)
        logits = (1 - d / 4).log_().mul_(-(dimension - 3) / 2)
        logits += d.log_().mul_((2.0 - dimension) / 2)
        # A finite floor: a row without an allowed negative must not turn into NaN.
        largest = torch.where(allowed, logits, _LOWEST).amax(2, keepdim=True)
        # Weights below the smallest normal number would be slow, and are never drawn.
        weights = logits.sub_(largest).clamp_(_FAINTEST, 0).exp_().mul_(allowed)
        positive = pick_positive(pairs, draws[:, 0])
        return Triplets(positive, pick(weights, draws[:, 1]), allowed.any(2))

    return mine


def semi_hard(margin: float) -> Mine:
    """A random positive, and a random negative farther by less than the margin, else any."""

    def mine(cosines: Tensor, pairs: Pairs, draws: Tensor) -> Triplets:
        distances = _distances(cosines)
        positive = pick_positive(pairs, draws[:, 0])
        reach = distances.gather(2, positive[:, :, None])
        wanted = pairs.negative & (distances > reach) & (distances < reach + margin)
        wanted = torch.where(wanted.any(2, keepdim=True), wanted, pairs.negative)
        negative = pick(wanted.float(), draws[:, 1])
        return Triplets(positive, negative, torch.ones_like(negative, dtype=torch.bool))

    return mine


def pick(weights: Tensor, draws: Tensor) -> Tensor:
    """One index (E, B) a row of weights (E, B, N), by uniform numbers (E, B) in [0, 1)."""
    cumulative = weights.cumsum(2)
    aim = (draws * _BELOW_ONE)[:, :, None] * cumulative[:, :, -1:]
    return torch.searchsorted(cumulative, aim, right=True)[:, :, 0].clamp(max=weights.shape[2] - 1)


def pick_positive(pairs: Pairs, draws: Tensor) -> Tensor:
    """One positive (E, B) of every sample, as `pick` chooses among equal weights."""
    positives = pairs.positive.nonzero()[:, 1].view(len(pairs.positive), -1)
    place = (draws * _BELOW_ONE * positives.shape[1]).long()
    return positives.expand(len(draws), -1, -1).gather(2, place[:, :, None])[:, :, 0]


def episodes_loss(
    criterion: str, episodes: int, classes: int, dimension: int
) -> EpisodesLoss | None:
    """The named method's loss for many episodes at once; None where there is none of its kind.

    `criterion` is written as on the command line: "margin" or "margin:beta=0.6".
    """
    name, changed = parse_method(criterion)
    if name not in _KNOWN:
        return None
    given = {**get_method(name).hyperparameters, **changed}
    return _KNOWN[name](given, episodes, classes, dimension)


def _margin(given: dict[str, float], episodes: int, classes: int, dimension: int) -> Margin | None:
    if given["nu"]:
        return None
    beta = torch.full((episodes, classes if given["per_class"] else 1), float(given["beta"]))
    mine = distance_weighted(given["cutoff"], given["upper_cutoff"], dimension)
    return Margin(beta, given["margin"], mine)


def _triplet(
    given: dict[str, float], episodes: int, classes: int, dimension: int
) -> Triplet | None:
    miners = {
        "semihard": semi_hard(given["margin"]),
        "distance": distance_weighted(0.5, 1.4, dimension),
    }
    mining = str(given["mining"])
    if given["squared"] or given["soft"] or mining not in miners:
        return None
    return Triplet(given["margin"], miners[mining])


def _contrastive(
    given: dict[str, float], episodes: int, classes: int, dimension: int
) -> Contrastive | None:
    if str(given["reduction"]) != "violating":
        return None
    return Contrastive(given["positive_margin"], given["negative_margin"])


def _multi_similarity(
    given: dict[str, float], episodes: int, classes: int, dimension: int
) -> MultiSimilarity:
    return MultiSimilarity(given["alpha"], given["beta"], given["base"], given["epsilon"])


_KNOWN: dict[str, Callable[..., EpisodesLoss | None]] = {
    "contrastive": _contrastive,
    "margin": _margin,
    "multi_similarity": _multi_similarity,
    "triplet": _triplet,
}


def _distances(cosines: Tensor) -> Tensor:
    """Distances of unit vectors, with gradient 0 where one is 0."""
    return (2 - 2 * cosines).clamp(min=1e-12).sqrt()


def _reach(cosines: Tensor, index: Tensor) -> Tensor:
    return _distances(cosines.gather(2, index[:, :, None])[:, :, 0])


def _mean_of_active(terms: Tensor) -> Tensor:
    return terms.sum((1, 2)) / (terms > 0).sum((1, 2)).clamp(min=1)


def _soft_maximum(values: Tensor, chosen: Tensor) -> Tensor:
    """log(1 + sum of exp) over the chosen values of every row."""
    return functional.softplus(torch.where(chosen, values, _LOWEST).logsumexp(2))
