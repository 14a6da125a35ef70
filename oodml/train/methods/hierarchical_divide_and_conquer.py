"""Hierarchical divide and conquer: a tree of clusters, each with a learned mask."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError, unknown_name
from oodml.runs.spec import RunSpec
from oodml.seeding import derive_seed
from oodml.train.methods.parts.clusters import (
    DividedTraining,
    Labels,
    Values,
    clusters_of,
    has_pairs,
    matched,
)
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Encoded, ParameterGroup, Training, groups, trainable
from oodml.train.registry import Base, method

MASKS = ("learned", "fixed")
# Attempts at a usable split of a cluster before the last one is taken as it is.
TRIALS = 10


@method(
    "hierarchical_divide_and_conquer",
    paper="arXiv:2109.04003",
    source="arXiv:2109.04003, its code; period, joint, freeze and 4 clusters chosen here",
    heads="one, under a mask a cluster; retrieves without",
    needs="clusters of the training data",
)
class HierarchicalDivideAndConquer(DividedTraining):
    """Hierarchical divide and conquer: a tree of clusters, each with a learned mask.

    Training begins with one cluster; every `period` epochs the samples are clustered again and the
    clusters split in two, until there are `clusters`, a power of two. The learner of a cluster is
    trained on normalise(z * [mask]+); the last `joint` share of the steps trains z without masks,
    as retrieval uses it. Whole networks freeze their trunk for `freeze` epochs after new clusters
    (in the paper 1 of a period of 2). `masks` are "learned", at the rate `mask_rate`, or "fixed":
    halves, quarters, ... of the embedding. `orthogonality` weights the mean cosine of two masks.
    The margin loss learns its boundary, as in `divide_and_conquer`.

    Every level has its own masks, in the optimiser from the start and frozen until their level is
    reached.
    """

    level: Tensor
    frozen_until: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = Base("margin"),  # noqa: B008 (a frozen record)
        clusters: int = 4,
        period: int = 1,
        joint: float = 0.4,
        freeze: int = 0,
        masks: str = "learned",
        mask_rate: float = 1e-3,
        orthogonality: float = 0.01,
    ) -> None:
        depth = max(clusters, 1).bit_length() - 1
        if clusters != 2**depth:
            raise UsageError(
                f"hierarchical_divide_and_conquer: clusters={clusters} is no power of two; "
                f"give {2**depth} or {2 ** (depth + 1)}."
            )
        if masks not in MASKS:
            raise unknown_name("kind of masks", masks, MASKS)
        dimension = model.embedding_dim
        criterion = base.criterion(num_classes, dimension)
        super().__init__(spec, model, criterion=criterion, period=period, joint=joint)
        self.epochs_frozen, self.mask_rate = freeze, mask_rate
        self.orthogonality = orthogonality
        learned = masks == "learned"
        levels = (
            [torch.ones(2**level, dimension) for level in range(depth + 1)]
            if learned
            else halving_masks(dimension, depth)
        )
        self.masks = nn.ParameterList(nn.Parameter(each, requires_grad=learned) for each in levels)
        self.register_buffer("level", torch.zeros((), dtype=torch.int64))
        self.register_buffer("frozen_until", torch.zeros((), dtype=torch.int64))

    def parameter_groups(self) -> list[ParameterGroup]:
        """The base's groups, and the masks of all levels at `mask_rate`."""
        return super().parameter_groups() + groups(
            ParameterGroup(trainable(self.masks), self.mask_rate, self.spec.training.weight_decay)
        )

    def clustered(self, training: Training, epoch: int) -> Labels:
        """The level's clusters, recomputed and matched to the previous ones, then split in two."""
        if self.clusters is None or len(self.masks) == 1:
            return torch.zeros_like(training.labels).numpy()
        seed, number = derive_seed(training.seed, "clusters", epoch), 2 ** int(self.level)
        values = self.directions(training)
        clusters = matched(clusters_of(values, number, seed=seed), self.clusters, number)
        if int(self.level) < len(self.masks) - 1:
            clusters = halved(values, clusters, training.labels.numpy(), seed=seed)
            self._descend()
        self.frozen_until.fill_((epoch + self.epochs_frozen) * self.batches(training).batches)
        return clusters

    @torch.no_grad()
    def _descend(self) -> None:
        """Go to the next level, whose learned masks start as copies of their parents'."""
        parents = self.masks[int(self.level)]
        self.level += 1
        children = self.masks[int(self.level)]
        if children.requires_grad:
            children.copy_(parents.repeat_interleave(2, dim=0))

    def before_loss(self, step: int, apart: bool) -> None:
        """Freeze the masks of other levels, and the trunk after new clusters."""
        trained = int(self.level) if apart else -1
        self.freeze(mask for level, mask in enumerate(self.masks) if level != trained)
        if apart and step < self.frozen_until:
            self.freeze(self.model.trunk.parameters())

    def learner_loss(self, encoded: Encoded, labels: Tensor, cluster: int) -> Tensor:
        """The loss of the masked embedding plus the weighted overlap of the level's masks."""
        masks = functional.relu(self.masks[int(self.level)])
        own = Encoded.of(encoded.pooled, encoded.output * masks[cluster])
        value = self.criterion.of(own, labels)
        if len(masks) == 1:
            return value
        return value + self.orthogonality * mean_cosine(masks)


def halving_masks(dimension: int, depth: int) -> list[Tensor]:
    """Binary masks by level: (1, d) of ones, its halves (2, d), their halves (4, d), ...

    The masks of a level are disjoint and cover all dimensions; rows 2 c and 2 c + 1 split row c of
    the level above. Raises `UsageError` for more masks than dimensions.
    """
    if 2**depth > dimension:
        raise UsageError(
            f"{2**depth} fixed masks do not divide an embedding of {dimension} dimensions; "
            "give fewer clusters or a larger embedding_dim."
        )
    place = torch.arange(dimension)
    borders = [0, dimension]
    levels = []
    for _ in range(depth + 1):
        rows = [(place >= low) & (place < high) for low, high in pairwise(borders)]
        levels.append(torch.stack(rows).float())
        borders = [
            *(b for low, high in pairwise(borders) for b in (low, (low + high) // 2)),
            dimension,
        ]
    return levels


def mean_cosine(masks: Tensor) -> Tensor:
    """The mean cosine of two different masks (k, d), k at least 2: 0 if they are disjoint."""
    unit = functional.normalize(masks, dim=1)
    cosines = unit @ unit.T
    number = len(masks)
    return (cosines.sum() - cosines.diagonal().sum()) / (number * (number - 1))


def halved(values: Values, clusters: Labels, classes: Labels, *, seed: int) -> Labels:
    """Every cluster c split in two by k-means: 2 c or 2 c + 1 for every sample (n,).

    `halved // 2` gives the old clusters back. A split is repeated with another seed, up to `TRIALS`
    times, until both halves have two classes with two samples each; otherwise the last split is
    taken. A single sample stays in 2 c. Source: arXiv:2109.04003, its code.
    """
    halves = 2 * clusters
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        if len(members) > 1:
            halves[members] += _split(values[members], classes[members], seed, int(cluster))
    return halves


def _split(values: Values, classes: Labels, seed: int, cluster: int) -> Labels:
    for trial in range(TRIALS):
        side = clusters_of(values, 2, seed=derive_seed(seed, "half", cluster, trial))
        if all(has_pairs(classes[side == number]) for number in (0, 1)):
            break
    return side
