"""One loss on top of another."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from oodml.train.objective import Criterion
from oodml.train.registry import Base


class Added(Criterion):
    """A base loss plus a weight times a regulariser over all pairs of unit-length embeddings."""

    def __init__(
        self,
        base: Base,
        num_classes: int,
        embedding_dim: int,
        regularizer: nn.Module,
        weight: float,
    ) -> None:
        own = base.criterion(num_classes, embedding_dim)
        super().__init__(
            own,
            own.miner,
            normalized=own.normalized,
            takes_pairs=own.takes_pairs,
            takes_references=own.takes_references,
        )
        self.regularizer = regularizer
        self.weight = weight

    def forward(self, embeddings: Tensor, labels: Tensor, *given: Any) -> Tensor:
        """The scalar loss; tuples and references are the base's alone."""
        value = super().forward(embeddings, labels, *given)
        added: Tensor = self.regularizer(functional.normalize(embeddings, dim=1), labels)
        return value + self.weight * added
