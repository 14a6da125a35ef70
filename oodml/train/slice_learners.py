"""Learners that each have a slice of the embedding and a cluster of the training samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.clusters import Labels, clusters_of, matched
from oodml.train.methods.parts.clusters import Divided, clustering_seed, directions
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Criterion, Encoded, ParameterGroup, groups, trainable
from oodml.train.slices import unit_slices
from oodml.train.training import Training


class SliceLearners(Divided):
    """A slice of the embedding for every cluster; retrieval sees each slice at unit length."""

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        criteria: Sequence[Criterion],
        sizes: Sequence[int],
        period: int,
        joint: float,
    ) -> None:
        super().__init__(spec, model, criterion=criterion, period=period, joint=joint)
        self.sizes = list(sizes)
        # A criterion that is the same for any dimension is shared with the whole embedding.
        self.criteria = [
            self.criterion if same_shapes(own.loss, criterion.loss) else own for own in criteria
        ]
        own = [each for each in self.criteria if each is not self.criterion]
        self.slice_losses = nn.ModuleList(each.loss for each in own)
        self.slice_miners = nn.ModuleList(each.miner for each in own if each.miner)

    def parameter_groups(self) -> list[ParameterGroup]:
        """With the slices' losses at the losses' rate."""
        rate = self.spec.criterion_learning_rate
        return super().parameter_groups() + groups(
            ParameterGroup(trainable(self.slice_losses), rate, 0.0)
        )

    def unit(self, output: Tensor) -> Tensor:
        """Every slice at unit length, then the whole: cosines are the means of the slices'."""
        return unit_slices(output, self.sizes, [1.0] * len(self.sizes))

    def clustered(self, training: Training, epoch: int) -> Labels | None:
        """As many clusters as slices, named as the ones before that they resemble."""
        number = len(self.sizes)
        if number == 1:
            return None
        seed = clustering_seed(training, epoch)
        new = clusters_of(directions(self, training), number, seed=seed)
        return new if self.clusters is None else matched(new, self.clusters, number)

    def learner_loss(self, encoded: Encoded, labels: Tensor, cluster: int) -> Tensor:
        """The loss of the cluster's slice by itself."""
        output = torch.split(encoded.output, self.sizes, dim=1)[cluster]
        embedding = torch.split(encoded.embedding, self.sizes, dim=1)[cluster]
        own = Encoded(encoded.pooled, output, functional.normalize(embedding, dim=1))
        return self.criteria[cluster](own, labels)


def same_shapes(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules hold tensors of the same names and shapes."""
    shapes = [{k: v.shape for k, v in each.state_dict().items()} for each in (one, other)]
    return shapes[0] == shapes[1]
