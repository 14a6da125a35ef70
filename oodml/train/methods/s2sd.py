"""S2SD: simultaneous similarity-based self-distillation from larger heads of the same network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.text import positive_numbers
from oodml.train.model import EmbeddingModel
from oodml.train.objective import (
    Batch,
    Encoded,
    Objective,
    ParameterGroup,
    groups,
    trainable,
)
from oodml.train.published_protocols import STUDY
from oodml.train.registry import Base, method


@method(
    "s2sd",
    paper="arXiv:2009.08348",
    source=f"{STUDY}, CUB200-2011; targets chosen here: 2 and 4 times a head of 128",
)
class SelfDistillation(Objective):
    """S2SD: self-distillation of the similarities of larger heads into a small one.

    L = (L_base + mean L_k) / 2 + weight * mean KL_k + feature_weight * KL_feature. `targets` are
    the sizes of the large heads, each with its own loss; retrieval uses the base head only. The
    pooled features' similarities are a further target after `feature_delay` steps, without
    gradient. The paper pools these features by average plus maximum; here they are pooled as for
    the base head.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = Base("r_margin"),  # noqa: B008 (a frozen record)
        targets: str = "256-512",
        weight: float = 50.0,
        feature_weight: float = 50.0,
        temperature: float = 1.0,
        feature_delay: int = 0,
    ) -> None:
        sizes = positive_numbers(targets, int, "s2sd: targets") if targets else []
        super().__init__(spec, model, base.criterion(num_classes, model.embedding_dim))
        self.weight, self.feature_weight = weight, feature_weight
        self.temperature, self.feature_delay = temperature, feature_delay
        self.target_criteria = [base.criterion(num_classes, size) for size in sizes]
        # A ModuleList, so that their parameters and buffers are saved and moved with the objective.
        self.registered = nn.ModuleList(self.target_criteria)
        self.targets = nn.ModuleList(
            nn.Sequential(nn.Linear(model.dimension, size), nn.ReLU(), nn.Linear(size, size))
            for size in sizes
        )

    def parameter_groups(self) -> list[ParameterGroup]:
        """The base's groups, the target heads at the network's rate, their criteria at theirs."""
        spec = self.spec
        return super().parameter_groups() + groups(
            ParameterGroup(
                trainable(self.targets), spec.training.learning_rate, spec.training.weight_decay
            ),
            ParameterGroup(trainable(self.registered), spec.training.criterion_learning_rate, 0.0),
        )

    def loss(self, batch: Batch) -> Tensor:
        """The losses of all heads plus the weighted distillation losses."""
        encoded = self.encode(batch.inputs)
        own = similarities(encoded.embedding)
        value = self.criterion.of(encoded, batch.labels)
        number = len(self.targets)
        for head, criterion in zip(self.targets, self.target_criteria, strict=True):
            output = head(encoded.pooled)
            target = Encoded.of(encoded.pooled, output)
            value = value + criterion.of(target, batch.labels) / number
            if self.weight:
                distilled = divergence(similarities(target.embedding), own, self.temperature)
                value = value + 2 * self.weight * distilled / number
        return value / 2 + self._of_features(encoded.pooled, own, batch.step)

    def _of_features(self, pooled: Tensor, own: Tensor, step: int) -> Tensor | float:
        if not self.feature_weight or step < self.feature_delay:
            return 0.0
        features = similarities(functional.normalize(pooled, dim=1))
        return self.feature_weight * divergence(features, own, self.temperature)


def similarities(embeddings: Tensor) -> Tensor:
    """Cosines (B, B) of unit vectors, the diagonal included."""
    return embeddings @ embeddings.T


def divergence(target: Tensor, own: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over rows of KL(softmax(target / T) || softmax(own / T)).

    No gradient reaches `target`. Both are logits (B, k); the divergence is a scalar.
    """
    wanted = functional.log_softmax(target.detach() / temperature, dim=1)
    given = functional.log_softmax(own / temperature, dim=1)
    value = functional.kl_div(given, wanted, log_target=True, reduction="batchmean")
    return temperature**2 * value
