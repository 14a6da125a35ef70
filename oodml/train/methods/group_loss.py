"""Group Loss and Group Loss++: soft labels refined by the similarities of a batch's samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.objective import Criterion
from oodml.train.registry import method

# Added under the logarithm by the reference code (github.com/dvl-tum/group_loss).
TINY = 1e-12
# Vectors whose entries vary by less than this get correlation 0 with all others.
SMALLEST = 1e-6
_SOURCE = "github.com/dvl-tum/group_loss, CUB200-2011"


@method(
    "group_loss",
    paper="arXiv:1912.00385",
    source=_SOURCE,
    heads="class + embedding; embedding retrieves",
)
class GroupLoss(Criterion):
    """Group Loss: label propagation within the batch by replicator dynamics on sample correlations.

    The loss is the cross-entropy of the refined soft labels, plus `auxiliary_weight` times that of
    a linear classifier over all training classes. `anchors` samples per class start with their
    one-hot label, the others with the classifier's softmax at a temperature; `iterations` steps of
    replicator dynamics refine them. Anchors are drawn at random in every batch and leave at least
    one sample of each class unlabelled; the reference code takes the first samples.

    The reference has no head: it correlates, classifies and retrieves by the pooled features. Here
    all three use the head's unnormalised output, so that embeddings have the size of the other
    methods' and frozen features can be used. The reference's 10 epochs of classifier pre-training
    are left out.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        anchors: int = 2,
        temperature: float = 24.0,
        iterations: int = 1,
        auxiliary_weight: float = 1.0,
    ) -> None:
        super().__init__(normalized=False)
        self.classifier = nn.Linear(embedding_dim, num_classes)
        self.anchors, self.temperature = anchors, temperature
        self.iterations, self.auxiliary_weight = iterations, auxiliary_weight

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of unnormalised outputs (B, D)."""
        logits = self.classifier(embeddings)
        own = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        soft = functional.softmax(logits / self.temperature, dim=1)
        start = torch.where(drawn_anchors(labels, self.anchors)[:, None], own, soft)
        refined = replicated(start, correlations(embeddings), self.iterations)
        value = functional.nll_loss(torch.log(refined + TINY), labels)
        if not self.auxiliary_weight:
            return value
        return value + self.auxiliary_weight * functional.cross_entropy(logits, labels)


@method(
    "group_loss_pp",
    paper="arXiv:2204.01509",
    source=f"{_SOURCE}; tricks of the evaluation set here",
    heads="class + embedding; embedding retrieves",
    mix=0.5,
)
class GroupLossPlusPlus(GroupLoss):
    """Group Loss++: Group Loss; retrieval adds mirrored images and unnormalised embeddings.

    With `mix=0` and `flip=False` it equals Group Loss bit for bit. How exactly the paper mixes
    these strategies is not published. Re-ranking, another of its strategies, must be asked for with
    `rerank`: it compares the test images with each other, which the other methods' metrics do not.
    """


def correlations(vectors: Tensor) -> Tensor:
    """Pearson's correlation of each pair of vectors (B, D) over the dimensions: (B, B).

    Negative correlations are set to 0. The diagonal is 1, also for a constant vector.
    """
    centered = vectors - vectors.mean(dim=1, keepdim=True)
    unit = functional.normalize(centered, dim=1, eps=SMALLEST)
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    return torch.where(itself, 1.0, (unit @ unit.T).relu())


def drawn_anchors(labels: Tensor, per_class: int) -> Tensor:
    """Which samples of a batch are anchors, drawn at random: (B,) bool.

    Every class has `per_class` anchors, but at least one sample that is not an anchor.
    """
    order = torch.randperm(len(labels), device=labels.device)
    order = order[labels[order].argsort(stable=True)]
    sizes = torch.bincount(labels)
    first = (sizes.cumsum(0) - sizes)[labels[order]]
    place = torch.arange(len(labels), device=labels.device) - first
    chosen = place < (sizes[labels[order]] - 1).clamp(max=per_class)
    return torch.zeros_like(labels, dtype=torch.bool).scatter(0, order, chosen)


def replicated(assignments: Tensor, similarity: Tensor, iterations: int) -> Tensor:
    """Soft labels X (B, C) after replicator steps X <- X * (W X), rows normalised to sum 1.

    W is `similarity` (B, B), nowhere negative. A row of which X * (W X) is all 0 stays as it is.
    """
    for _ in range(iterations):
        grown = assignments * (similarity @ assignments)
        mass = grown.sum(dim=1, keepdim=True)
        reached = mass > 0
        assignments = torch.where(reached, grown / torch.where(reached, mass, 1.0), assignments)
    return assignments
