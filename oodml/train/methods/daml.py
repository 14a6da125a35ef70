"""DAML: negatives that a generator makes against the metric that is being learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.methods.parts.mining import draw
from oodml.train.methods.parts.synthesis import Triplets, constant, loss_on
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Encoded, Objective
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
    """DAML: a loss over triplets, also with negatives that a generator makes hard.

    The generator turns the features of a triplet into a negative that should lie near the anchor,
    near the true negative, and under the head's metric nearer to the anchor than the positive:
    `hard`, `regular` and `adversarial` weigh these terms, `hidden` is its width (0: that of the
    features). It is trained by an optimiser of its own before the network's step, on features
    without gradient and with the head's weights as constants. `weight` is that of the loss with
    synthetic negatives, `triplets` of which are made an anchor. To the network they are constants
    too: the head learns from them, the trunk does not. Works on cached features as they are,
    standardised. Retrieval knows real features only.
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
        """The generator's."""
        return {"generator": self.optimizer}

    def loss(self, batch: Batch) -> Tensor:
        """The base loss of the batch, and of its triplets with the negatives made anew."""
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
        # Over the dimensions, so that the weights mean the same for every backbone.
        distances = (of_hard * hard + of_regular * regular) / features.shape[1]
        self.optimizer.zero_grad(set_to_none=True)
        (distances + of_adversarial * adversarial).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def hardness(made: Tensor, anchors: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared distance of made negatives (T, C) to the anchors, and to the true negatives."""
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
