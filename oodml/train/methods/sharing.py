"""Sharing matters: class-discriminative features beside features that classes share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.methods.parts.several_heads import SharedByClasses, TwoHeads
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch
from oodml.train.registry import Base, method


@method(
    "sharing",
    paper="arXiv:2004.05582",
    source="arXiv:2004.13458 and its code, SOP: two of its features; weights published for these "
    "two alone not found",
    heads="class + shared; class head retrieves",
)
class Sharing(TwoHeads):
    """Sharing matters: a second head learns shared features from triplets across classes.

    L = L_class + alpha L_shared + decorrelation * the loss of an adversary between the heads.
    `decorrelation` holds for 128 dimensions and is scaled by (dimension / 128)^2. Triplets of
    L_shared are of three different classes; positives are any samples of another class or, if
    `permuted`, of the same label after a permutation of the batch's labels. Retrieval uses the
    class head alone; with a `shared_weight` the weighted shared embedding is appended, which
    doubles the dimensions.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = Base("margin"),  # noqa: B008 (a frozen record)
        alpha: float = 0.2,
        decorrelation: float = 150.0,
        permuted: bool = False,
        shared_weight: float = 0.0,
    ) -> None:
        size = model.embedding_dim
        criterion, shared = (base.criterion(num_classes, size, takes_pairs=True) for _ in range(2))
        super().__init__(
            spec,
            model,
            criterion=criterion,
            other=SharedByClasses(shared, permuted),
            decorrelation=decorrelation,
        )
        self.alpha, self.shared_weight = alpha, shared_weight

    def loss(self, batch: Batch) -> Tensor:
        """The losses of both heads plus the adversary's."""
        encoded = self.encode(batch.inputs)
        shared = self.second_of(encoded)
        value = self.criterion.of(encoded, batch.labels)
        if self.alpha:
            value = value + self.alpha * self.others[0].of(shared, batch.labels)
        return value + self.shared_content(encoded, [shared])

    def embed(self, inputs: Tensor) -> Tensor:
        """Unit-length embeddings (B, D), or (B, 2 D) with the weighted shared ones."""
        if not self.shared_weight:
            return super().embed(inputs)
        pooled = self.model.trunk(inputs)
        own, shared = (
            functional.normalize(head(pooled).float(), dim=1)
            for head in (self.model.head, self.second)
        )
        return functional.normalize(torch.cat([own, self.shared_weight * shared], dim=1), dim=1)
