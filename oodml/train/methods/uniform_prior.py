"""Uniform prior: adversarial regularisation of features towards a uniform distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError, unknown_name
from oodml.runs.spec import RunSpec
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Encoded, Objective, constant, trainable
from oodml.train.published_protocols import STUDY
from oodml.train.registry import Base, method

# What is regularised: the trunk's features, the head's outputs, or the former if it is trained.
PLACES = ("auto", "pooled", "output")
# Pooled features are split into chunks of this size, as in the scripts of arXiv:2107.09562.
CHUNK = 128


@method(
    "uniform_prior",
    paper="arXiv:2006.16524",
    source=STUDY,
)
class UniformPrior(Objective):
    """Uniform prior: a base loss plus an adversarial loss that pulls features to a uniform prior.

    A discriminator between features and noise ~ U(-1, 1)^n is trained by its own optimiser, on
    every `every`-th batch before the network's step; the network is trained, with `weight`, to have
    its features classified as noise, which does not change the discriminator.

    `on` is "pooled" (the trunk's features in chunks of 128, as in the study; those of a ReLU are
    never negative and cannot become uniform), "output" (the head's outputs), or "auto": pooled
    where the trunk is trained, else the output.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = Base("margin"),  # noqa: B008 (a frozen record)
        weight: float = 0.2,
        every: int = 10,
        hidden: int = 100,
        on: str = "auto",
    ) -> None:
        super().__init__(spec, model, base.criterion(num_classes, model.embedding_dim))
        self.weight, self.every = weight, every
        self.pooled = _is_pooled(on, model)
        size = _chunk(model.dimension) if self.pooled else model.embedding_dim
        self.discriminator = nn.Sequential(
            nn.Linear(size, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
            nn.Flatten(0),
        )
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=spec.training.learning_rate, betas=(0.5, 0.999)
        )

    def private_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The discriminator's optimiser."""
        return {"discriminator": self.optimizer}

    def loss(self, batch: Batch) -> Tensor:
        """The base loss plus the weighted adversarial loss."""
        encoded = self.encode(batch.inputs)
        value = self.criterion.of(encoded, batch.labels)
        features = self._judged(encoded)
        if batch.step % self.every == 0:
            self._train_discriminator(features.detach())
        if not self.weight:
            return value
        return value + self.weight * adversarial_loss(self.discriminator, features)

    def _judged(self, encoded: Encoded) -> Tensor:
        if not self.pooled:
            return encoded.output
        return encoded.pooled.reshape(-1, _chunk(encoded.pooled.shape[1]))

    def _train_discriminator(self, features: Tensor) -> None:
        noise = 2 * torch.rand_like(features) - 1
        self.optimizer.zero_grad(set_to_none=True)
        discriminator_loss(self.discriminator, noise, features).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def discriminator_loss(discriminator: nn.Module, noise: Tensor, features: Tensor) -> Tensor:
    """The discriminator's cross-entropy, target 1 for noise (N, n), 0 for features (N, n)."""
    real, false = discriminator(noise), discriminator(features)
    return functional.binary_cross_entropy_with_logits(
        real, torch.ones_like(real)
    ) + functional.binary_cross_entropy_with_logits(false, torch.zeros_like(false))


def adversarial_loss(discriminator: nn.Module, features: Tensor) -> Tensor:
    """The network's adversarial loss, -log D(features), without gradient to the discriminator.

    `features` is (B, d); the loss is a scalar.
    """
    logits = constant(discriminator, features)
    return functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def _is_pooled(on: str, model: EmbeddingModel) -> bool:
    if on not in PLACES:
        raise unknown_name("place of the uniform prior", on, PLACES)
    moves = bool(trainable(model.trunk))
    if on == "pooled" and not moves:
        raise UsageError(
            "uniform_prior: on=pooled: frozen features are not trained; give on=output."
        )
    return moves and on != "output"


def _chunk(dimension: int) -> int:
    """128 if it divides the dimension, else the dimension."""
    return CHUNK if dimension % CHUNK == 0 else dimension
