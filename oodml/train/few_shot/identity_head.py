"""Linear heads that begin as the identity: what is adapted where no head was trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodml.runs.spec import RunSpec
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Criterion, Objective


class Turned(nn.Module):
    """x + (A - 1) x within the span of `directions` (C, r), x itself across it; A (r, r) is 1.

    So what comes out keeps all C dimensions, and r * r numbers are adapted in place of C * C.
    """

    directions: Tensor

    def __init__(self, directions: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", directions)
        self.weight = nn.Parameter(torch.eye(directions.shape[1]))

    def forward(self, inputs: Tensor) -> Tensor:
        within = inputs @ self.directions
        moved: Tensor = inputs + (within @ self.weight.T - within) @ self.directions.T
        return moved


def identity_objective(spec: RunSpec, support: Tensor) -> Objective:
    """An objective whose embeddings are its inputs at unit length until its head is adapted.

    `support` (n, C) is the support's part of the inputs. Up to `spec.embedding_dim` dimensions the
    head is a whole matrix, beyond it moves so many principal directions of the support only.
    """
    dimension = support.shape[1]
    model = EmbeddingModel(nn.Identity(), 1, 1)
    if dimension <= spec.model.embedding_dim:
        whole = nn.Linear(dimension, dimension, bias=False)
        nn.init.eye_(whole.weight)
        model.head = whole
    else:
        turned = Turned(principal_directions(support, spec.model.embedding_dim))
        model.head = turned  # type: ignore[assignment]
    model.dimension = model.embedding_dim = dimension
    return Objective(spec, model, Criterion(nn.Identity()))


def principal_directions(rows: Tensor, count: int) -> Tensor:
    """At most `count` orthonormal directions (C, r) of the largest second moment of rows (n, C).

    The mean is not taken away: cosines see it too. Directions without any moment are left out.
    """
    from scipy.linalg import eigh

    doubled = rows.double()
    gram = doubled @ doubled.T if len(rows) < rows.shape[1] else doubled.T @ doubled
    # Only so many eigenvectors are found, in a third of the time that all of them take.
    most = (max(len(gram) - count, 0), len(gram) - 1)
    found = eigh(gram.cpu().numpy(), subset_by_index=most)
    moments, vectors = (torch.from_numpy(part).to(rows.device) for part in found)
    kept = (moments > moments[-1] * 1e-10).nonzero().flatten().flip(0)
    vectors = vectors[:, kept]
    if len(rows) < rows.shape[1]:
        vectors = doubled.T @ vectors / moments[kept].sqrt()
    directions: Tensor = vectors.float()
    return directions
