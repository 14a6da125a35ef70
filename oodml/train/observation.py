"""What a policy sees of training: figures of a hold-out, and how they went so far."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from oodml.eval.retrieval.clustering import cluster, normalized_mutual_information

# arXiv:2003.11113.
DEPTHS = (1, 2, 4, 8)
KEPT = 20
WINDOWS = (2, 8, 16, 32)


def figures_of(embeddings: Tensor, labels: Tensor, nmi: bool = False) -> Tensor:
    """Recall at 1, 2, 4 and 8, mean cosine distance within and between classes, and NMI if asked.

    (6,) or (7,) float32 of unit-length embeddings (n, D) on the CPU. Distances are means over
    pairs; NMI takes a k-means run of as many clusters as there are classes.
    """
    cosines = embeddings @ embeddings.T
    same = labels[:, None] == labels[None, :]
    nearest = cosines.clone().fill_diagonal_(-torch.inf)
    order = nearest.topk(min(max(DEPTHS), len(labels) - 1), dim=1).indices
    hits = labels[order] == labels[:, None]
    recalls = [hits[:, :depth].any(1).float().mean() for depth in DEPTHS]
    within = same.clone().fill_diagonal_(False)
    figures = [*recalls, 1 - cosines[within].mean(), 1 - cosines[~same].mean()]
    if nmi:
        figures.append(torch.tensor(_nmi(embeddings, labels)))
    return torch.stack(figures).float()


def _nmi(embeddings: Tensor, labels: Tensor) -> float:
    classes = np.unique(labels.numpy(), return_inverse=True)[1]
    clusters = cluster(embeddings.numpy(), int(classes.max()) + 1)
    return normalized_mutual_information(clusters, classes)


class History(nn.Module):
    """The last 32 vectors of figures (f,), newest last; before the first one, copies of it."""

    values: Tensor
    added: Tensor

    def __init__(self, figures: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(max(WINDOWS), figures))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    @property
    def size(self) -> int:
        """The length of `summary`."""
        return int(self.values.shape[1]) * (KEPT + len(WINDOWS))

    @property
    def last(self) -> Tensor:
        """The newest figures (f,)."""
        return self.values[-1]

    def add(self, figures: Tensor) -> None:
        """Put new figures (f,) last."""
        older = self.values[1:] if self.added else figures.expand(len(self.values) - 1, -1)
        self.values.copy_(torch.cat([older, figures[None].to(older)]))
        self.added += 1

    def summary(self) -> Tensor:
        """The last 20 vectors and the means over the last 2, 8, 16 and 32, (24 f,)."""
        means = [self.values[-window:].mean(0) for window in WINDOWS]
        return torch.cat([self.values[-KEPT:].flatten(), *means])
