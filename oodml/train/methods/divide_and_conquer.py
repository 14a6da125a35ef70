"""Divide and conquer the embedding space: one learner per cluster of the training samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError
from oodml.runs.spec import RunSpec
from oodml.seeding import derive_seed
from oodml.train.methods.parts.clusters import DividedTraining, Labels, clusters_of, matched
from oodml.train.model import EmbeddingModel, slice_sizes, unit_slices
from oodml.train.objective import Encoded, ParameterGroup, Training, groups, trainable
from oodml.train.registry import Base, method


@method(
    "divide_and_conquer",
    paper="arXiv:1906.05990",
    source="arXiv:1906.05990, its code; joint, and 4 clusters, chosen here",
    heads="4 slices, one a cluster; all retrieve",
    needs="clusters of the training data",
)
class DivideAndConquer(DividedTraining):
    """Divide and conquer: one slice of the embedding for each cluster of the training samples.

    The pooled features are clustered every `period` epochs, and clusters are matched to the
    previous ones (Hungarian assignment) so that they keep their slices. In the last `joint` share
    of the steps the whole embedding is trained. Retrieval scales each slice to unit length. The
    paper fixes the margin loss's boundary; here it is learned, as in the base loss.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = Base("margin"),  # noqa: B008 (a frozen record)
        clusters: int = 4,
        period: int = 2,
        joint: float = 0.5,
    ) -> None:
        if clusters < 1:
            raise UsageError(f"divide_and_conquer: clusters={clusters}: give 1 or more.")
        sizes = slice_sizes(model.embedding_dim, [1] * clusters)
        whole = base.criterion(num_classes, model.embedding_dim)
        own = [base.criterion(num_classes, size) for size in (sizes if clusters > 1 else [])]
        super().__init__(spec, model, criterion=whole, period=period, joint=joint)
        self.sizes = sizes
        # A criterion without parameters of the embedding's size is shared with the whole embedding.
        self.criteria = [self.criterion if same_shapes(each, whole) else each for each in own]
        unshared = [each for each in self.criteria if each is not self.criterion]
        self.slice_criteria = nn.ModuleList(unshared)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The base's groups, and the slices' criteria at the criterion's learning rate."""
        rate = self.spec.training.criterion_learning_rate
        return super().parameter_groups() + groups(
            ParameterGroup(trainable(self.slice_criteria), rate, 0.0)
        )

    def unit(self, output: Tensor) -> Tensor:
        """The slices at unit length, concatenated: cosines are the mean of the slices' cosines."""
        return unit_slices(output, self.sizes, [1.0] * len(self.sizes))

    def clustered(self, training: Training, epoch: int) -> Labels | None:
        """One cluster per slice, numbered like the previous cluster that it overlaps most."""
        number = len(self.sizes)
        if number == 1:
            return None
        seed = derive_seed(training.seed, "clusters", epoch)
        new = clusters_of(self.directions(training), number, seed=seed)
        return new if self.clusters is None else matched(new, self.clusters, number)

    def learner_loss(self, encoded: Encoded, labels: Tensor, cluster: int) -> Tensor:
        """The loss of the cluster's slice alone."""
        output = torch.split(encoded.output, self.sizes, dim=1)[cluster]
        embedding = torch.split(encoded.embedding, self.sizes, dim=1)[cluster]
        own = Encoded(encoded.pooled, output, functional.normalize(embedding, dim=1))
        return self.criteria[cluster].of(own, labels)


def same_shapes(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules hold tensors of the same names and shapes."""
    shapes = [{k: v.shape for k, v in each.state_dict().items()} for each in (one, other)]
    return shapes[0] == shapes[1]
