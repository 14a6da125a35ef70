"""HDML: hardness-aware metric learning, with synthetic tuples of adaptive hardness."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.methods.daml import Triplets, loss_on
from oodml.train.methods.parts.mining import OnePairPerClass
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Objective, constant
from oodml.train.registry import Base, method

_N_PAIR = Base("n_pair")
# Losses of the step before the first: negatives hardly move, synthetic tuples hardly count.
_BEFORE = 1e6
_SMALLEST = 1e-12


@method(
    "hdml",
    paper="arXiv:1903.05503",
    source="code of arXiv:1903.05503; negatives chosen here for short runs",
    needs="private optimisers",
)
class HardnessAware(Objective):
    """HDML: a loss over pairs, also on synthetic tuples with negatives nearer to their anchor.

    The smaller the base loss was at the last step, the further negatives move; `alpha` scales how
    far (0: not at all). A generator maps outputs of the head back to features, and a classifier of
    features makes it preserve the class; `balance` and `class_weight` weight the generator's two
    terms. Synthetic tuples, anchors and positives included, go from the head through the generator
    and the head again; the weight of their loss grows as the generator's loss at the last step
    falls. `beta` sets how fast (0: never, which is the base loss alone; its scale depends on the
    batch size and the dimension of the features).

    The network's gradient passes through the generator, whose weights are held constant. Generator
    and classifier have their own optimisers and are trained before each step of the network, on
    outputs and features without gradient; the classifier on real features only.

    A tuple is a pair of one class with the positives of `negatives` others; 0 takes all others as
    in the paper, which on cached features is many times as slow as the head alone. On cached
    features the generator works on the standardised features; retrieval uses real features only.
    """

    real_loss: Tensor
    generator_loss: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = _N_PAIR,
        alpha: float = 90.0,
        beta: float = 1e4,
        balance: float = 0.5,
        class_weight: float = 1e4,
        negatives: int = 1,
        hidden: int = 512,
        generator_rate: float = 1e-2,
        classifier_rate: float = 1e-3,
    ) -> None:
        criterion = base.criterion(num_classes, model.embedding_dim, takes_pairs=True)
        super().__init__(spec, model, criterion)
        self.alpha, self.beta = alpha, beta
        self.balance, self.class_weight, self.negatives = balance, class_weight, negatives
        self.generator = nn.Sequential(
            nn.Linear(model.embedding_dim, hidden),
            # Batch statistics suffice: the generator is never used outside of training.
            nn.BatchNorm1d(hidden, track_running_stats=False),
            nn.ReLU(),
            nn.Linear(hidden, model.dimension),
        )
        self.classifier = nn.Linear(model.dimension, num_classes)
        self.optimizers = {
            "generator": torch.optim.Adam(self.generator.parameters(), lr=generator_rate),
            "classifier": torch.optim.Adam(self.classifier.parameters(), lr=classifier_rate),
        }
        self.register_buffer("real_loss", torch.tensor(_BEFORE))
        self.register_buffer("generator_loss", torch.tensor(_BEFORE))

    def private_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The generator's and the classifier's optimisers."""
        return dict(self.optimizers)

    def loss(self, batch: Batch) -> Tensor:
        """The base losses of the batch and of its synthetic tuples, weighted by `trust`."""
        encoded, labels = self.encode(batch.inputs), batch.labels
        value = self.criterion.of(encoded, labels)
        triplets = n_pair_triplets(labels, self.negatives)
        if not len(triplets):
            return value
        outputs = self.criterion.compared(encoded)
        tuples = torch.cat([outputs, self._pulled(outputs, triplets)])
        trust = self.trust()
        self._train_generator(tuples.detach(), encoded.pooled.detach(), labels, triplets)
        again = self.model.head(constant(self.generator, tuples)).float()
        real, made = again[: len(labels)], again[len(labels) :]
        synthetic = loss_on(self.criterion, real, labels, made, triplets)
        self.real_loss.copy_(value.detach())
        return trust * value + (1 - trust) * synthetic

    def trust(self) -> float:
        """The real samples' weight e^(-beta / J), J the generator's loss at the last step."""
        return math.exp(-self.beta / max(float(self.generator_loss), _SMALLEST))

    def _pulled(self, outputs: Tensor, triplets: Triplets) -> Tensor:
        kept = math.exp(-self.alpha / max(float(self.real_loss), _SMALLEST))
        return pulled(
            outputs[triplets.anchors],
            outputs[triplets.positives],
            outputs[triplets.negatives],
            kept,
        )

    def _train_generator(
        self, tuples: Tensor, features: Tensor, labels: Tensor, triplets: Triplets
    ) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        again = self.generator(tuples)
        rebuilt, made = again[: len(labels)], again[len(labels) :]
        mistaken = functional.cross_entropy(
            constant(self.classifier, made), labels[triplets.negatives]
        )
        # A sum over the batch, as the published beta expects it.
        error = (features - rebuilt).square().sum()
        value = (1 - self.balance) * error + self.balance * self.class_weight * mistaken
        value.backward()
        functional.cross_entropy(self.classifier(features), labels).backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.generator_loss.copy_(value.detach())


@torch.no_grad()
def n_pair_triplets(labels: Tensor, negatives: int = 0) -> Triplets:
    """A random pair of every class, with the positives of `negatives` other pairs as negatives.

    0 takes the positives of all other pairs, as the N-pair loss does; otherwise they are drawn.
    `labels` is (B,).
    """
    anchors, positives, _, _ = OnePairPerClass()(labels, labels)
    pairs = len(anchors)
    others = torch.rand(pairs, pairs, device=labels.device).fill_diagonal_(2.0).argsort(1)
    kept = others[:, : min(negatives or pairs, max(pairs - 1, 0))]
    repeats = kept.shape[1]
    return Triplets(
        anchors.repeat_interleave(repeats),
        positives.repeat_interleave(repeats),
        positives[kept.flatten()],
    )


def pulled(anchors: Tensor, positives: Tensor, negatives: Tensor, kept: float) -> Tensor:
    """Negatives (T, d) moved towards their anchor on the line between them, arXiv:1903.05503.

    Of the distance by which a negative is farther than the positive, the share `kept` remains. A
    negative that is nearer than the positive does not move.
    """
    to_positive = (positives - anchors).norm(dim=1, keepdim=True)
    to_negative = (negatives - anchors).norm(dim=1, keepdim=True)
    beyond = to_negative > to_positive
    wanted = to_positive + (to_negative - to_positive) * kept
    # A negative at distance 0 from its anchor does not move, and must not be divided by 0.
    share = torch.where(beyond, wanted, 1.0) / torch.where(beyond, to_negative, 1.0)
    return torch.where(beyond, anchors + share * (negatives - anchors), negatives)
