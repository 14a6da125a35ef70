"""Group Loss: soft labels of a batch, refined by the similarity of its samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Added under the logarithm by the reference code (github.com/dvl-tum/group_loss).
TINY = 1e-12
# Vectors whose entries differ by less than this correlate with nothing.
SMALLEST = 1e-6


def correlations(vectors: Tensor) -> Tensor:
    """Pearson's correlation of each pair of vectors (B, D) over the dimensions: (B, B).

    Negative ones count as 0. Each vector has 1 with itself, also one of equal entries.
    """
    centered = vectors - vectors.mean(dim=1, keepdim=True)
    unit = functional.normalize(centered, dim=1, eps=SMALLEST)
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    return torch.where(itself, 1.0, (unit @ unit.T).relu())


def drawn_anchors(labels: Tensor, per_class: int) -> Tensor:
    """Which samples of a batch are anchors, drawn at random: (B,) bool.

    Every class has `per_class` of them, but at least one of its samples is none.
    """
    order = torch.randperm(len(labels), device=labels.device)
    order = order[labels[order].argsort(stable=True)]
    sizes = torch.bincount(labels)
    first = (sizes.cumsum(0) - sizes)[labels[order]]
    place = torch.arange(len(labels), device=labels.device) - first
    chosen = place < (sizes[labels[order]] - 1).clamp(max=per_class)
    return torch.zeros_like(labels, dtype=torch.bool).scatter(0, order, chosen)


def replicated(assignments: Tensor, similarity: Tensor, iterations: int) -> Tensor:
    """Soft labels X (B, C) after steps X <- X * (W X) with rows brought back to sum 1.

    W is `similarity` (B, B), nowhere negative. A row that W X gives no mass stays as it is.
    """
    for _ in range(iterations):
        grown = assignments * (similarity @ assignments)
        mass = grown.sum(dim=1, keepdim=True)
        reached = mass > 0
        assignments = torch.where(reached, grown / torch.where(reached, mass, 1.0), assignments)
    return assignments


class GroupLoss(nn.Module):
    """Cross-entropy of refined soft labels, plus `weight` times that of a linear classifier.

    `anchors` samples of a class start with their label, the others with the classifier's softmax
    at a temperature, over all training classes (arXiv:1912.00385).
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        anchors: int,
        temperature: float,
        iterations: int,
        weight: float,
    ) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding_dim, num_classes)
        self.anchors, self.temperature = anchors, temperature
        self.iterations, self.weight = iterations, weight

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch of outputs (B, D) of any length."""
        logits = self.classifier(outputs)
        own = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        soft = functional.softmax(logits / self.temperature, dim=1)
        start = torch.where(drawn_anchors(labels, self.anchors)[:, None], own, soft)
        refined = replicated(start, correlations(outputs), self.iterations)
        value = functional.nll_loss(torch.log(refined + TINY), labels)
        if not self.weight:
            return value
        return value + self.weight * functional.cross_entropy(logits, labels)
