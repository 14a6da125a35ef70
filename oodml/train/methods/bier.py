"""BIER: an embedding of boosted learners, each a slice that focuses on earlier learners' errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import unknown_name
from oodml.runs.spec import RunSpec
from oodml.text import positive_numbers
from oodml.train.methods.parts.over_pairs import cosines, mean_where, pairs_of
from oodml.train.methods.parts.several_heads import reverse_gradient
from oodml.train.model import EmbeddingModel, slice_sizes, unit_slices
from oodml.train.objective import (
    Batch,
    Criterion,
    Objective,
    ParameterGroup,
    groups,
    trainable,
)
from oodml.train.registry import method

# The hidden width of a regressor between two learners, from the published code.
HIDDEN = 512
# The initial boosting score for each form of boosting (arXiv:1801.04815, its code).
FORMS = {"shrinkage": 0.5, "eta": 0.0}


@method(
    "bier",
    paper="arXiv:1801.04815",
    source="arXiv:1801.04815, its code, Stanford Online Products",
    heads="3 growing slices, boosted; all retrieve",
)
class BoostedLearners(Objective):
    """BIER: gradient boosting of embedding slices, decorrelated by an adversarial loss.

    Each learner weights the pairs of the batch by the errors of the learners before it. `heads` is
    the ratio of the slices' sizes; `boosting` is the "shrinkage" or the "eta" form of the pair
    weights. `diversity` is the weight of the `decorrelation` loss ("adversarial" or "activation"),
    and `length_weight` the weight, within it, of the penalty that keeps the weight vectors of
    regressors and heads at unit length. The decorrelation loss trains the head only, not the trunk.
    Where the trunk is trained, the heads learn `head_rate` times as fast. Retrieval scales each
    slice to unit length and weights it by its size.

    Deviations from the published code: means over positives exclude pairs of a sample with itself,
    which the code includes; the length penalty is on the weights into each hidden unit, where the
    code's adversary constrains the weights out of each input.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        heads: str = "3-5-8",
        alpha: float = 2.0,
        beta: float = 0.5,
        cost: float = 25.0,
        boosting: str = "shrinkage",
        shrinkage: float = 0.06,
        decorrelation: str = "adversarial",
        diversity: float = 5e-5,
        length_weight: float = 1e5,
        head_rate: float = 10.0,
    ) -> None:
        if decorrelation not in DECORRELATIONS:
            raise unknown_name("decorrelation", decorrelation, DECORRELATIONS)
        sizes = slice_sizes(model.embedding_dim, positive_numbers(heads, int, "bier: heads"))
        deviance = BoostedDeviance(
            sizes, alpha=alpha, beta=beta, cost=cost, form=boosting, shrinkage=shrinkage
        )
        super().__init__(spec, model, Criterion(deviance))
        self.sizes = sizes
        self.diversity, self.length_weight, self.head_rate = diversity, length_weight, head_rate
        self.decorrelation = (
            DECORRELATIONS[decorrelation](sizes) if diversity and len(sizes) > 1 else None
        )
        if self.decorrelation is not None:
            start_at_unit_rows(model.head)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The trunk's group, and the head and regressors at `head_rate` times its rate."""
        spec = self.spec
        trunk = trainable(self.model.trunk)
        rate = spec.training.learning_rate * (self.head_rate if trunk else 1.0)
        behind = nn.ModuleList([self.model.head, *self._regressors()])
        return groups(
            ParameterGroup(
                trunk, spec.training.learning_rate, spec.training.weight_decay, warm=False
            ),
            ParameterGroup(trainable(behind), rate, spec.training.weight_decay),
        )

    def _regressors(self) -> list[nn.Module]:
        return [] if self.decorrelation is None else [self.decorrelation]

    def unit(self, output: Tensor) -> Tensor:
        """The slices at unit length, weighted by their sizes, and the whole at unit length."""
        return unit_slices(output, self.sizes, self.sizes)

    def loss(self, batch: Batch) -> Tensor:
        """The boosted deviance plus the weighted decorrelation loss."""
        encoded = self.encode(batch.inputs)
        value = self.criterion.of(encoded, batch.labels)
        if self.decorrelation is None:
            return value
        rows = torch.split(self.model.head.weight, self.sizes)
        pooled = encoded.pooled.detach()
        common: Tensor = self.decorrelation([functional.linear(pooled, part) for part in rows])
        lengths = self.decorrelation.penalty() + torch.stack([unit_rows(x) for x in rows]).sum()
        return value + self.diversity * (common + self.length_weight * lengths)


class BoostedDeviance(nn.Module):
    """The mean over learners of the deviance log(1 + e^(-a)) of pairs, a = alpha (s - beta) m.

    s is the cosine of a pair in the learner's slice of the embedding, m is 1 for positives and
    minus `cost` for negatives; the mean over positives and the mean over negatives are added. A
    pair's weight for a learner is the negative gradient of the boosting loss: the logistic function
    of minus the accumulated score, without gradient (see `accumulated` and `pair_weights`).
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
        """The scalar loss of embeddings (B, D), the learners' slices side by side."""
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
        """The boosting score of every pair after learner `number`, which counts from 1.

        In the "shrinkage" form the margins times the shrinkage are added. In the "eta" form the
        score is a running mean of the margins, in which the newest has weight 2 / (number + 1).
        """
        if self.form == "shrinkage":
            return score + self.shrinkage * margins
        eta = 2 / (number + 1)
        return (1 - eta) * score + eta * margins

    def pair_weights(self, score: Tensor, negative: Tensor) -> Tensor:
        """The pair weights of the next learner; the "shrinkage" form doubles those of negatives."""
        weights = torch.sigmoid(-score)
        return torch.where(negative, 2 * weights, weights) if self.form == "shrinkage" else weights


class AdversarialDecorrelation(nn.Module):
    """One adversarial regressor per pair of learners, from the larger slice to the smaller.

    The regressor maximises the squared product of its prediction and the smaller learner's output;
    gradient reversal makes both learners minimise it (arXiv:1801.04815). Unlike in `Adversary`,
    neither side is normalised, so `penalty` bounds the weights.
    """

    def __init__(self, sizes: Sequence[int], hidden: int = HIDDEN) -> None:
        super().__init__()
        self.pairs = list(combinations(range(len(sizes)), 2))
        self.regressors = nn.ModuleList(
            nn.Sequential(
                nn.Linear(sizes[source], hidden), nn.ReLU(), nn.Linear(hidden, sizes[target])
            )
            for target, source in self.pairs
        )
        for layer in self._layers():
            start_at_unit_rows(layer)
            nn.init.zeros_(layer.bias)

    def _layers(self) -> list[nn.Linear]:
        return [layer for layer in self.regressors.modules() if isinstance(layer, nn.Linear)]

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Minus the mean squared products of learners' outputs (B, d_m), summed over the pairs."""
        value = parts[0].new_zeros(())
        for (target, source), regressor in zip(self.pairs, self.regressors, strict=True):
            guess = regressor(reverse_gradient(parts[source]))
            value = value - (reverse_gradient(parts[target]) * guess).square().mean()
        return value

    def penalty(self) -> Tensor:
        """How far the regressors' weights are from unit length, and their biases above it."""
        away = [unit_rows(layer.weight) + short(layer.bias) for layer in self._layers()]
        return torch.stack(away).sum()


class ActivationDecorrelation(nn.Module):
    """Decorrelation without an adversary: penalises products of two learners' dimensions."""

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """The mean squared product over samples and pairs of dimensions, summed over learners."""
        # The mean over all pairs of dimensions of (f_k g_l)^2 is the product of the means.
        energy = [part.square().mean(dim=1) for part in parts]
        products = [(one * other).mean() for one, other in combinations(energy, 2)]
        return torch.stack(products).sum()

    def penalty(self) -> Tensor:
        """Zero: there are no weights to constrain."""
        return torch.zeros(())


Decorrelation = AdversarialDecorrelation | ActivationDecorrelation
DECORRELATIONS: dict[str, Callable[[Sequence[int]], Decorrelation]] = {
    "adversarial": AdversarialDecorrelation,
    "activation": lambda sizes: ActivationDecorrelation(),
}


@torch.no_grad()
def start_at_unit_rows(layer: nn.Linear) -> None:
    """Scale every weight row to length 1, so that the penalty does not dominate the first steps."""
    layer.weight.copy_(functional.normalize(layer.weight, dim=1))


def unit_rows(weight: Tensor) -> Tensor:
    """The mean squared difference of the rows' squared lengths from 1.

    `weight` is (k, d); the difference is a scalar.
    """
    return (weight.square().sum(dim=1) - 1).square().mean()


def short(bias: Tensor) -> Tensor:
    """By how much the squared length of a bias exceeds 1.

    `bias` is (k,); the result is a scalar.
    """
    return (bias.square().sum() - 1).clamp(min=0)
