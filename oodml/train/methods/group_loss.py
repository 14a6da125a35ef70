"""Group Loss and Group Loss++: soft labels of a batch, refined by how alike its samples are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.objective import Criterion
from oodml.train.registry import method

# Added under the logarithm by the reference code (github.com/dvl-tum/group_loss).
TINY = 1e-12
# Vectors whose entries differ by less than this correlate with nothing.
SMALLEST = 1e-6
_SOURCE = "github.com/dvl-tum/group_loss, CUB200-2011"


@method(
    "group_loss",
    paper="arXiv:1912.00385",
    source=_SOURCE,
    heads="class + embedding; embedding retrieves",
)
class GroupLoss(Criterion):
    """Group Loss: soft labels spread within the batch along the correlation of its samples.

    Cross-entropy of the refined soft labels, plus `auxiliary_weight` times that of a linear
    classifier over all training classes. `anchors` samples of a class start with their label, the
    others with the classifier's softmax at a temperature. Anchors are drawn at random in every
    batch, and leave one sample of each class to be labelled; the reference takes the first.

    The reference has no head: it correlates the pooled features, classifies them and retrieves by
    them. Here all three take the head's output as it is, so that embeddings have the size of all
    other methods', and frozen features are not asked to change. It trains the network as a
    classifier for 10 epochs before, which is left out.
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
        """The mean loss of a batch of outputs (B, D) of any length."""
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
    """Group Loss++: Group Loss in training; mirrored and un-normalised embeddings join retrieval.

    With `mix=0` and `flip=False` it is Group Loss to the last bit. The paper's exact mixture of
    these strategies was not found. Re-ranking, one of them, is the user's to ask for with `rerank`:
    it uses the test images together, which the plain numbers of other methods do not.
    """


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
