"""Learners that each have a mask over the embedding and a cluster in a growing hierarchy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.clusters import Labels, clusters_of, halved, matched
from oodml.train.masks import halving_masks, mean_cosine
from oodml.train.methods.parts.clusters import Divided, clustering_seed, directions
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Criterion, Encoded, ParameterGroup, groups, trainable
from oodml.train.training import Training


class MaskLearners(Divided):
    """Clusters that are halved again and again, each with a mask over the whole embedding.

    A cluster's learner sees normalise(z * [mask]+). Every level of the hierarchy has masks of its
    own, which rest until their time: the optimiser knows them from the start, and theirs is the
    only state that begins with them. Retrieval sees z without a mask.
    """

    level: Tensor
    frozen_until: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        depth: int,
        period: int,
        joint: float,
        freeze: int,
        masks: str,
        mask_rate: float,
        overlap_weight: float,
    ) -> None:
        super().__init__(spec, model, criterion=criterion, period=period, joint=joint)
        self.freeze, self.mask_rate = freeze, mask_rate
        self.overlap_weight = overlap_weight
        learned = masks == "learned"
        dimension = model.embedding_dim
        levels = (
            [torch.ones(2**level, dimension) for level in range(depth + 1)]
            if learned
            else halving_masks(dimension, depth)
        )
        self.masks = nn.ParameterList(nn.Parameter(each, requires_grad=learned) for each in levels)
        self.register_buffer("level", torch.zeros((), dtype=torch.int64))
        self.register_buffer("frozen_until", torch.zeros((), dtype=torch.int64))

    def parameter_groups(self) -> list[ParameterGroup]:
        """With the masks of all levels at their own rate."""
        return super().parameter_groups() + groups(
            ParameterGroup(trainable(self.masks), self.mask_rate, self.spec.weight_decay)
        )

    def clustered(self, training: Training, epoch: int) -> Labels:
        """The clusters of the level anew, named as before, then each of them halved."""
        if self.clusters is None or len(self.masks) == 1:
            return torch.zeros_like(training.labels).numpy()
        values, seed = directions(self, training), clustering_seed(training, epoch)
        number = 2 ** int(self.level)
        clusters = matched(clusters_of(values, number, seed=seed), self.clusters, number)
        if int(self.level) < len(self.masks) - 1:
            clusters = halved(values, clusters, training.labels.numpy(), seed=seed)
            self._descend()
        self.frozen_until.fill_((epoch + self.freeze) * self.batches(training).batches)
        return clusters

    @torch.no_grad()
    def _descend(self) -> None:
        """To the next level, whose learned masks begin as those of their parents."""
        parents = self.masks[int(self.level)]
        self.level += 1
        children = self.masks[int(self.level)]
        if children.requires_grad:
            children.copy_(parents.repeat_interleave(2, dim=0))

    def before_loss(self, apart: bool) -> None:
        """Let the masks of other levels rest, and the trunk after new clusters."""
        awake = int(self.level) if apart else -1
        self.rest(mask for level, mask in enumerate(self.masks) if level != awake)
        if apart and self.step < self.frozen_until:
            self.rest(self.model.trunk.parameters())

    def learner_loss(self, encoded: Encoded, labels: Tensor, cluster: int) -> Tensor:
        """The loss of the masked embedding, and how much the masks of the level overlap."""
        masks = functional.relu(self.masks[int(self.level)])
        output = encoded.output * masks[cluster]
        own = Encoded(encoded.pooled, output, functional.normalize(output, dim=1))
        value = self.criterion(own, labels)
        if len(masks) == 1:
            return value
        return value + self.overlap_weight * mean_cosine(masks)
