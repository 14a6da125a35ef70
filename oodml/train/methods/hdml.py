"""Tuples with harder negatives, mapped back to features and judged as far as they are trusted."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.methods.parts.synthesis import Triplets, constant, loss_on, n_pair_triplets, pulled
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Objective

# What stands for a running loss before the first step: no pull, full trust in real samples.
_BEFORE = 1e6
_SMALLEST = 1e-12


class HardnessAware(Objective):
    """The base loss of samples and of their synthetic, harder tuples, by trust in the generator.

    Negatives are pulled to their anchor, the more the smaller the base loss was at the last step.
    A generator maps outputs of the head back to features, a classifier of features keeps it to
    their classes. The synthetic tuples, anchors and positives too, go from the head through the
    generator and the same head; the weight of their loss grows as the generator's falls. It was
    `generator_loss` at the last step, a number without gradient.

    The network's gradient passes through the generator, whose weights are constants to it.
    Generator and classifier are trained by optimisers of their own, before the network's step,
    on outputs and features without gradient; the classifier on real features only.
    """

    real_loss: Tensor
    generator_loss: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        num_classes: int,
        alpha: float,
        beta: float,
        balance: float,
        class_weight: float,
        negatives: int,
        hidden: int,
        rates: tuple[float, float],
    ) -> None:
        super().__init__(spec, model, criterion)
        self.alpha, self.beta = alpha, beta
        self.balance, self.class_weight, self.negatives = balance, class_weight, negatives
        self.generator = nn.Sequential(
            nn.Linear(model.embedding_dim, hidden),
            # Nothing but the batch at hand: the generator is never used outside of training.
            nn.BatchNorm1d(hidden, track_running_stats=False),
            nn.ReLU(),
            nn.Linear(hidden, model.dimension),
        )
        self.classifier = nn.Linear(model.dimension, num_classes)
        self.optimizers = {
            "generator": torch.optim.Adam(self.generator.parameters(), lr=rates[0]),
            "classifier": torch.optim.Adam(self.classifier.parameters(), lr=rates[1]),
        }
        self.register_buffer("real_loss", torch.tensor(_BEFORE))
        self.register_buffer("generator_loss", torch.tensor(_BEFORE))

    def private_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The generator's and the classifier's."""
        return dict(self.optimizers)

    def loss(self, batch: Batch) -> Tensor:
        """The base loss of the batch and that of its synthetic tuples, weighed by trust."""
        encoded, labels = self.encode(batch.inputs), batch.labels
        value = self.criterion(encoded, labels)
        triplets = n_pair_triplets(labels, self.negatives)
        if not len(triplets):
            return value
        outputs = encoded.output if not self.criterion.normalized else encoded.embedding
        tuples = torch.cat([outputs, self._pulled(outputs, triplets)])
        trust = self.trust()
        self._train_generator(tuples.detach(), encoded.pooled.detach(), labels, triplets)
        again = self.model.head(constant(self.generator, tuples)).float()
        real, made = again[: len(labels)], again[len(labels) :]
        synthetic = loss_on(self.criterion, real, labels, made, triplets)
        self.real_loss.copy_(value.detach())
        return trust * value + (1 - trust) * synthetic

    def trust(self) -> float:
        """The weight of real samples, e^(-beta / J) with the generator's last loss J."""
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
