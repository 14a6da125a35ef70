"""Classifying the samples of a batch before and after messages between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.seeding import generator
from oodml.train.batches import batches_for
from oodml.train.message_passing import MessageClassifier
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Criterion, Objective
from oodml.train.training import Training


class ClassifiedTwice(nn.Module):
    """Label-smoothed cross-entropy of two classifiers: of samples alone, and after messages.

    The first reads outputs (B, D) as they are, the second, `messages`, unit embeddings. Without it
    the first is left.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        messages: MessageClassifier | None,
        temperature: float,
        smoothing: float,
    ) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding_dim, num_classes)
        self.messages = messages
        self.temperature, self.smoothing = temperature, smoothing

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The sum of both mean losses, of weight 1 each."""
        value = self._cross_entropy(self.classifier(outputs), labels)
        if self.messages is None:
            return value
        logits = self.messages(functional.normalize(outputs, dim=1))
        return value + self._cross_entropy(logits, labels)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits / self.temperature, labels, label_smoothing=self.smoothing
        )


class IntraBatchConnections(Objective):
    """`ClassifiedTwice`, on batches whose number of classes may be drawn anew in every epoch.

    Messages are passed in training only: `embed` and `output` are the model's own.
    """

    def __init__(
        self, spec: RunSpec, model: EmbeddingModel, *, criterion: Criterion, redraw: bool
    ) -> None:
        super().__init__(spec, model, criterion)
        self.redraw = redraw
        if redraw and (spec.batches != "balanced" or not class_numbers(spec.batch_size)):
            raise UsageError(
                f"mpn: redraw=true divides balanced batches evenly, not {spec.batches} ones of "
                f"{spec.batch_size}; give --batches balanced and another --train-batch-size."
            )

    def loader(self, training: Training, epoch: int) -> Iterable[Any]:
        """Batches of the epoch's number of classes."""
        if not self.redraw:
            return super().loader(training, epoch)
        spec = self.spec
        numbers = class_numbers(spec.batch_size)
        classes = int(generator(training.seed, "classes of a batch", epoch).choice(numbers))
        batches = batches_for(
            spec.batches,
            training.labels.numpy(),
            spec.batch_size,
            spec.batch_size // classes,
            seed=training.seed,
            batches=self.batches(training).batches,
        )
        return batches.epoch(epoch)


def class_numbers(batch_size: int) -> list[int]:
    """The numbers of classes, each with equally many samples and at least 2, that fill a batch."""
    return [number for number in range(2, batch_size // 2 + 1) if batch_size % number == 0]
