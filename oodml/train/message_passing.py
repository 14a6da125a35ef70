"""Message passing: every sample of a batch attends to all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MessageLayer(nn.Module):
    """Multi-head attention over the whole batch, then an MLP, each added and layer-normalised.

    Messages on the complete graph of the batch, every sample its own neighbour too, are what
    attention over a sequence of all samples computes (arXiv:2102.07753). The MLP is 4 times wider.
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


class MessagePassing(nn.Module):
    """Rounds of messages: (B, D) to (B, `dimension`).

    That is what the last round makes, or all rounds side by side if `concatenated`. Rows permuted
    come out permuted alike.
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


class MessageClassifier(nn.Module):
    """Logits of what messages within the batch make of unit embeddings (B, D): (B, C).

    A linear map, message passing, BatchNorm without a shift, a linear classifier without bias.
    """

    def __init__(self, num_classes: int, embedding_dim: int, network: MessagePassing) -> None:
        super().__init__()
        self.reduction = nn.Linear(embedding_dim, embedding_dim)
        self.network = network
        self.neck = nn.BatchNorm1d(network.dimension)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(network.dimension, num_classes, bias=False)
        # As behind the BatchNorm necks of arXiv:1903.07071: the first logits are all but 0.
        nn.init.normal_(self.classifier.weight, std=1e-3)

    def forward(self, embeddings: Tensor) -> Tensor:
        """The logits of a batch; they depend on all of it."""
        logits: Tensor = self.classifier(self.neck(self.network(self.reduction(embeddings))))
        return logits
