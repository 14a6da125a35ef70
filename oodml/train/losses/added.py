"""One loss on top of another."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError
from oodml.train.objective import Criterion, as_criterion
from oodml.train.registry import Base


class Added(nn.Module):
    """A loss plus a weight times a regulariser over all pairs of unit-length embeddings."""

    def __init__(self, loss: nn.Module, regularizer: nn.Module, weight: float) -> None:
        super().__init__()
        self.loss = loss
        self.regularizer = regularizer
        self.weight = weight

    def forward(self, embeddings: Tensor, labels: Tensor, *tuples: object) -> Tensor:
        """The scalar loss; tuples of a miner are the first loss's alone."""
        value: Tensor = self.loss(embeddings, labels, *tuples)
        added: Tensor = self.regularizer(functional.normalize(embeddings, dim=1), labels)
        return value + self.weight * added


def added(
    base: Base, num_classes: int, embedding_dim: int, regularizer: nn.Module, weight: float
) -> Criterion:
    """A base method's criterion with a regulariser; `UsageError` if it is more than a loss."""
    criterion = as_criterion(base.criterion(num_classes, embedding_dim))
    if not isinstance(criterion, Criterion):
        raise UsageError(f"base={base.name}: give a method that is only a loss.")
    loss = Added(criterion.loss, regularizer, weight)
    return Criterion(loss, criterion.miner, normalized=criterion.normalized)
