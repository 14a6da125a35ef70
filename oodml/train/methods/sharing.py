"""Features of the class beside features that classes share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.methods.parts.several_heads import TwoHeads
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion


class SharingFeatures(TwoHeads):
    """A loss on an embedding of classes and on one of what they share.

    L = L_class + alpha L_shared + decorrelation * the adversary's loss. Retrieval uses the first
    embedding, with the second one times `shared_weight` beside it if that is not 0.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        shared: Criterion,
        alpha: float,
        decorrelation: float,
        shared_weight: float,
    ) -> None:
        super().__init__(
            spec, model, criterion=criterion, other=shared, decorrelation=decorrelation
        )
        self.alpha, self.shared_weight = alpha, shared_weight

    def loss(self, batch: Batch) -> Tensor:
        """The losses of both embeddings and what the adversary finds in common."""
        encoded = self.encode(batch.inputs)
        shared = self.second_of(encoded)
        value = self.criterion(encoded, batch.labels)
        if self.alpha:
            value = value + self.alpha * self.others[0](shared, batch.labels)
        return value + self.shared_content(encoded, [shared])

    def embed(self, inputs: Tensor) -> Tensor:
        """Unit-length embeddings (B, D), or (B, 2 D) with a weight for the shared ones."""
        if not self.shared_weight:
            return super().embed(inputs)
        pooled = self.model.trunk(inputs)
        own, shared = (
            functional.normalize(head(pooled).float(), dim=1)
            for head in (self.model.head, self.second)
        )
        return functional.normalize(torch.cat([own, self.shared_weight * shared], dim=1), dim=1)
