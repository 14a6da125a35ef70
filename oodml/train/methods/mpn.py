"""Intra-batch connections (MPN): classification before and after message passing in the batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.seeding import generator
from oodml.train.batches import batches_for
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Criterion, Objective, Training
from oodml.train.registry import method


@method(
    "mpn",
    paper="arXiv:2102.07753",
    source="github.com/dvl-tum/intra_batch, CUB200-2011",
    heads="class + class after messages + embedding; embedding retrieves",
    # The learning rate of heads on cached features: the paper has one rate for all parameters.
    criterion_learning_rate=1e-3,
)
class IntraBatchConnections(Objective):
    """Intra-batch connections: classifiers before and after message passing in the batch.

    Message passing is used in training only: `embed` and `output` are the model's own. With
    `layers=0` it is left out. With `redraw` the number of classes per batch is drawn anew in every
    epoch.

    Deviations: the code computes correlations between samples without using them, here they are not
    computed; its configuration for SOP has the first classifier alone, the paper's method and this
    one have both; random erasing is left out of the augmentation.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        layers: int = 1,
        heads: int = 2,
        concatenated: bool = False,
        dropout: float = 0.1,
        temperature: float = 0.2,
        smoothing: float = 0.1,
        redraw: bool = False,
    ) -> None:
        size = model.embedding_dim
        if heads < 1 or size % heads:
            raise UsageError(
                f"mpn: heads={heads} does not divide the embedding's {size} dimensions; "
                "give a number that does."
            )
        batches, drawn = spec.training.batches, spec.training.batch_size
        if redraw and (batches != "balanced" or not class_numbers(drawn)):
            raise UsageError(
                f"mpn: redraw=true divides balanced batches evenly, not {batches} ones of {drawn}; "
                "give batches=balanced and another batch_size."
            )
        messages = None
        if layers > 0:
            passing = MessagePassing(size, layers, heads, dropout, concatenated=concatenated)
            messages = MessageClassifier(num_classes, size, passing)
        loss = ClassifiedTwice(num_classes, size, messages, temperature, smoothing)
        super().__init__(spec, model, Criterion(loss, normalized=False))
        self.redraw = redraw

    def loader(self, training: Training, epoch: int) -> Iterable[Any]:
        """The epoch's batches, whose number of classes may be drawn anew."""
        if not self.redraw:
            return super().loader(training, epoch)
        size = self.spec.training.batch_size
        random = generator(training.seed, "classes of a batch", epoch)
        settings = replace(
            self.spec.training,
            samples_per_class=size // int(random.choice(class_numbers(size))),
            epoch_steps=self.batches(training).batches,
        )
        labels = training.labels.numpy()
        return batches_for(settings, labels, seed=training.seed).epoch(epoch)


def class_numbers(batch_size: int) -> list[int]:
    """The numbers of classes that divide a batch evenly with at least 2 samples per class."""
    return [number for number in range(2, batch_size // 2 + 1) if batch_size % number == 0]


class ClassifiedTwice(nn.Module):
    """Label-smoothed cross-entropy of two classifiers, before and after message passing.

    The first takes unnormalised outputs (B, D); the second, `messages`, takes unit embeddings and
    may be left out.
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
        """The sum of both mean losses, with equal weights."""
        value = self._cross_entropy(self.classifier(outputs), labels)
        if self.messages is None:
            return value
        logits = self.messages(functional.normalize(outputs, dim=1))
        return value + self._cross_entropy(logits, labels)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits / self.temperature, labels, label_smoothing=self.smoothing
        )


class MessageClassifier(nn.Module):
    """Class logits (B, C) after message passing between the unit embeddings (B, D) of a batch.

    A linear map, message passing, BatchNorm without a shift, a linear classifier without bias.
    """

    def __init__(self, num_classes: int, embedding_dim: int, network: MessagePassing) -> None:
        super().__init__()
        self.reduction = nn.Linear(embedding_dim, embedding_dim)
        self.network = network
        self.neck = nn.BatchNorm1d(network.dimension)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(network.dimension, num_classes, bias=False)
        # As behind the BatchNorm necks of arXiv:1903.07071: the initial logits are close to 0.
        nn.init.normal_(self.classifier.weight, std=1e-3)

    def forward(self, embeddings: Tensor) -> Tensor:
        """The logits of a batch; each depends on all of its samples."""
        logits: Tensor = self.classifier(self.neck(self.network(self.reduction(embeddings))))
        return logits


class MessagePassing(nn.Module):
    """Rounds of message passing: (B, D) to (B, `dimension`).

    The output is that of the last round, or of all rounds concatenated if `concatenated`. It is
    equivariant to permutations of the rows.
    """

    def __init__(
        self, dimension: int, layers: int, heads: int, dropout: float, *, concatenated: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MessageLayer(dimension, heads, dropout) for _ in range(layers))
        self.concatenated = concatenated
        self.dimension = layers * dimension if concatenated else dimension

    def forward(self, nodes: Tensor) -> Tensor:
        """The nodes (B, D) of a batch after all rounds."""
        rounds = []
        for layer in self.layers:
            nodes = layer(nodes)
            rounds.append(nodes)
        return torch.cat(rounds, dim=1) if self.concatenated else nodes


class MessageLayer(nn.Module):
    """Multi-head attention over the batch, then an MLP, each with a residual and LayerNorm.

    Message passing on the complete graph of the batch, self-loops included, equals self-attention
    over the sequence of all samples (arXiv:2102.07753). The MLP is 4 times wider.
    """

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dimension, heads, dropout=dropout)
        self.attention_norm = nn.LayerNorm(dimension)
        self.inner = nn.Linear(dimension, 4 * dimension)
        self.outer = nn.Linear(4 * dimension, dimension)
        self.outer_norm = nn.LayerNorm(dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor) -> Tensor:
        """The nodes (B, D) after one round of messages."""
        message, _ = self.attention(nodes, nodes, nodes, need_weights=False)
        nodes = self.attention_norm(nodes + self.dropout(message))
        inner = self.dropout(functional.relu(self.inner(nodes)))
        after: Tensor = self.outer_norm(nodes + self.dropout(self.outer(inner)))
        return after
