"""DAML: adversarial metric learning, with hard negatives synthesised by a generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.methods.parts.mining import draw
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Encoded, Objective, constant
from oodml.train.registry import Base, method

_TRIPLET = Base("triplet")


@method(
    "daml",
    paper="10.1109/CVPR.2018.00294",
    source="powerful-benchmarker; weight of the generator's terms, triplets and its rate for short "
    "runs chosen here",
    needs="private optimiser",
)
class AdversarialNegatives(Objective):
    """DAML: a loss over triplets that also trains on hard negatives synthesised by a generator.

    The generator maps the features of a triplet to a synthetic negative that lies near the anchor,
    near the true negative, and, under the head's metric, closer to the anchor than the positive:
    `hard`, `regular` and `adversarial` weight these three terms. `hidden` is the generator's width
    (0: that of the features). It is trained by its own optimiser before each step of the network,
    on features without gradient and with the head's weights held constant. `weight` is that of the
    loss with synthetic negatives, `triplets` of which are made per anchor. Synthetic negatives are
    constants for the network: they train the head, not the trunk. Retrieval uses real features
    only.

    On cached features the generator works on the standardised features.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = _TRIPLET,
        weight: float = 0.1,
        hard: float = 1.0,
        regular: float = 1.0,
        adversarial: float = 1.0,
        margin: float = 0.01,
        triplets: int = 1,
        hidden: int = 0,
        generator_rate: float = 1e-3,
    ) -> None:
        criterion = base.criterion(num_classes, model.embedding_dim, takes_pairs=True)
        super().__init__(spec, model, criterion)
        self.weight, self.triplets, self.margin = weight, triplets, margin
        self.weights = (hard, regular, adversarial)
        size = model.dimension
        self.generator = nn.Sequential(
            nn.Linear(3 * size, hidden or size), nn.ReLU(), nn.Linear(hidden or size, size)
        )
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=generator_rate)

    def private_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The generator's optimiser."""
        return {"generator": self.optimizer}

    def loss(self, batch: Batch) -> Tensor:
        """The base loss of the batch plus the weighted base loss with synthetic negatives."""
        encoded = self.encode(batch.inputs)
        value = self.criterion.of(encoded, batch.labels)
        triplets = random_triplets(batch.labels, self.triplets)
        if not len(triplets):
            return value
        self._train_generator(encoded, triplets)
        with torch.no_grad():
            negatives = self.made(encoded.pooled, triplets)
        made = self.model.head(negatives).float()
        synthetic = loss_on(self.criterion, encoded.output, batch.labels, made, triplets)
        return value + self.weight * synthetic

    def made(self, features: Tensor, triplets: Triplets) -> Tensor:
        """The generator's negatives (T, C) for triplets of features (B, C)."""
        parts = (triplets.anchors, triplets.positives, triplets.negatives)
        negatives: Tensor = self.generator(torch.cat([features[rows] for rows in parts], dim=1))
        return negatives

    def _train_generator(self, encoded: Encoded, triplets: Triplets) -> None:
        features = encoded.pooled.detach()
        made = self.made(features, triplets)
        hard, regular = hardness(made, features[triplets.anchors], features[triplets.negatives])
        unit = encoded.embedding.detach()
        adversarial = nearer_than_positive(
            functional.normalize(constant(self.model.head, made), dim=1),
            unit[triplets.anchors],
            unit[triplets.positives],
            self.margin,
        )
        of_hard, of_regular, of_adversarial = self.weights
        # Divided by the dimension, so that the weights mean the same for every backbone.
        distances = (of_hard * hard + of_regular * regular) / features.shape[1]
        self.optimizer.zero_grad(set_to_none=True)
        (distances + of_adversarial * adversarial).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


@dataclass(frozen=True, eq=False)
class Triplets:
    """Indices into a batch, int64 (T,) each, from which T synthetic negatives are made."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor

    def __len__(self) -> int:
        return len(self.anchors)


def loss_on(
    criterion: Criterion, outputs: Tensor, labels: Tensor, made: Tensor, triplets: Triplets
) -> Tensor:
    """A loss over pairs of the anchors and positives of a batch with synthetic negatives.

    `outputs` (B, d) are the head's outputs of the samples, `made` (T, d) those of the negatives,
    one per triplet. Both are scaled to unit length where the loss expects that.
    """
    vectors = torch.cat([outputs, made])
    if criterion.normalized:
        vectors = functional.normalize(vectors, dim=1)
    of_all = torch.cat([labels, labels[triplets.negatives]])
    places = len(labels) + torch.arange(len(triplets), device=labels.device)
    tuples = (triplets.anchors, triplets.positives, triplets.anchors, places)
    value: Tensor = criterion(vectors, of_all, tuples)
    return value


def hardness(made: Tensor, anchors: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared distances of made negatives (T, C) to the anchors and the true negatives."""
    return (
        (made - anchors).square().sum(1).mean(),
        (made - negatives).square().sum(1).mean(),
    )


def nearer_than_positive(made: Tensor, anchors: Tensor, positives: Tensor, margin: float) -> Tensor:
    """Mean [D(made, anchor) - D(positive, anchor) - margin]+ of embeddings (T, d)."""
    reach = (positives - anchors).norm(dim=1)
    return functional.relu((made - anchors).norm(dim=1) - reach - margin).mean()


@torch.no_grad()
def random_triplets(labels: Tensor, per_anchor: int) -> Triplets:
    """`per_anchor` random triplets of every sample (B,) that has a positive and a negative."""
    negative = labels[:, None] != labels[None, :]
    positive = (~negative).fill_diagonal_(False)
    anchors = torch.nonzero(positive.any(1) & negative.any(1)).flatten()
    if not len(anchors):
        return Triplets(anchors, anchors, anchors)
    anchors = anchors.repeat_interleave(per_anchor)
    return Triplets(anchors, draw(positive[anchors]), draw(negative[anchors]))
