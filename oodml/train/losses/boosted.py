"""Binomial deviance of several learners, each taught most on the pairs that were hard before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import unknown_name
from oodml.train.methods.parts.over_pairs import cosines, mean_where, pairs_of

# Where the accumulated score starts, by the form of boosting (arXiv:1801.04815, its code).
FORMS = {"shrinkage": 0.5, "eta": 0.0}


class BoostedDeviance(nn.Module):
    """The mean over learners of the deviance log(1 + e^(-a)) of pairs, a = alpha (s - beta) m.

    s is the cosine of a pair in the learner's slice of the embedding, m is 1 for positives and
    minus `cost` for negatives; means over positives and over negatives are summed. A learner's
    pairs are weighted, without gradient, by how wrong the learners before it were: by the logistic
    function of minus the accumulated score, see `accumulated` and `pair_weights`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        alpha: float,
        beta: float,
        cost: float,
        form: str,
        shrinkage: float,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise unknown_name("form of boosting", form, FORMS)
        self.sizes = list(sizes)
        self.alpha, self.beta, self.cost = alpha, beta, cost
        self.form, self.shrinkage = form, shrinkage

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The scalar loss of embeddings (B, D), of which every learner has its slice."""
        positive, negative = pairs_of(labels)
        signs = torch.where(negative, -self.cost, 1.0)
        score = torch.full_like(signs, FORMS[self.form])
        weights = torch.ones_like(signs)
        value = embeddings.new_zeros(())
        for number, part in enumerate(torch.split(embeddings, self.sizes, dim=1), 1):
            unit = functional.normalize(part, dim=1)
            margins = self.alpha * (cosines(unit, unit) - self.beta) * signs
            deviance = weights * functional.softplus(-margins)
            value = value + mean_where(deviance, positive) + mean_where(deviance, negative)
            score = self.accumulated(score, margins.detach(), number)
            weights = self.pair_weights(score, negative)
        return value / len(self.sizes)

    def accumulated(self, score: Tensor, margins: Tensor, number: int) -> Tensor:
        """The score after learner `number`, from 1.

        In the "shrinkage" form its margins are added, times the shrinkage. In the "eta" form the
        score is a mean of the margins so far, in which the last has the share 2 / (number + 1).
        """
        if self.form == "shrinkage":
            return score + self.shrinkage * margins
        eta = 2 / (number + 1)
        return (1 - eta) * score + eta * margins

    def pair_weights(self, score: Tensor, negative: Tensor) -> Tensor:
        """What the next learner's pairs weigh; in the "shrinkage" form negatives count twice."""
        weights = torch.sigmoid(-score)
        return torch.where(negative, 2 * weights, weights) if self.form == "shrinkage" else weights
