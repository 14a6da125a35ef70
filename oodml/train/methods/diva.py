"""Four embeddings of one image: what tells classes apart, what they share, what varies in them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.seeding import generator
from oodml.train.distributed import gathered
from oodml.train.losses.self_similarity import distance_weighted_contrast
from oodml.train.methods.parts.queue import Queue
from oodml.train.methods.parts.several_heads import SeveralHeads, of_output
from oodml.train.model import EmbeddingModel
from oodml.train.momentum import MomentumCopy
from oodml.train.objective import Batch, Criterion, Encoded
from oodml.train.slices import slice_sizes, unit_slices
from oodml.train.training import Training, encoded_rows

# Classes, self-similarity, shared, intra-class: of equal size.
SHARES = (1, 1, 1, 1)


class DiverseFeatures(SeveralHeads):
    """Slices of the head's output for classes, self-similarity, shared and intra-class features.

    L = L_class + alpha (L_self + L_shared + L_intra) + decorrelation * the sum of adversaries.
    Self-similarity contrasts two views of an image, the second seen by a slow copy of the network,
    with a queue of what the copy made of other images, whatever their class.
    """

    views = 2

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        shared: Criterion,
        intra: Criterion,
        alpha: float,
        decorrelation: float,
        class_weight: float,
        temperature: float,
        momentum: float,
        queue_batches: int,
    ) -> None:
        sizes = slice_sizes(model.embedding_dim, SHARES)
        super().__init__(
            spec,
            model,
            criterion=criterion,
            others=[shared, intra],
            sizes=sizes,
            decorrelation=decorrelation,
        )
        self.sizes, self.alpha, self.temperature = sizes, alpha, temperature
        self.class_weight = class_weight
        self.slow = MomentumCopy(model, momentum)
        self.queue = Queue(max(queue_batches, 1) * spec.batch_size, sizes[1])
        self.recent: Tensor | None = None

    def slices(self, encoded: Encoded) -> list[Encoded]:
        """The four embeddings of what has been encoded."""
        parts = torch.split(encoded.output, self.sizes, dim=1)
        return [of_output(encoded.pooled, part) for part in parts]

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Fill the queue, as far as there are training samples, if it is still empty."""
        if not self.alpha or int(self.queue.pushed):
            return
        order = generator(training.seed, "queue").permutation(len(training.labels))
        rows = order[: len(self.queue.labels)]
        keys = encoded_rows(self, training.samples, rows, self._keys, training.device)
        self.queue.push(keys.to(training.device), training.labels[rows].to(training.device))

    def _keys(self, inputs: Tensor) -> Tensor:
        """What the slow copy makes of inputs, the slice of self-similarity: (B, d)."""
        with torch.autocast(
            inputs.device.type, torch.bfloat16, enabled=self.spec.training_precision == "bf16"
        ):
            output = self.slow(inputs)
        return functional.normalize(torch.split(output, self.sizes, dim=1)[1], dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of classes, the other three, and what the adversaries find in common."""
        own, similar, shared, intra = self.slices(self.encode(batch.inputs))
        value = self.criterion(own, batch.labels)
        if self.alpha:
            of_others = self._of_itself(similar.embedding, batch)
            for criterion, part in zip(self.others, (shared, intra), strict=True):
                of_others = of_others + criterion(part, batch.labels)
            value = value + self.alpha * of_others
        return value + self.shared_content(own, (similar, shared, intra))

    def _of_itself(self, queries: Tensor, batch: Batch) -> Tensor:
        self.recent = gathered(self._keys(batch.views[1]))
        return distance_weighted_contrast(
            queries, self.recent, self.queue.held()[0], temperature=self.temperature
        )

    def after_step(self, training: Training, batch: Batch) -> None:
        """Let the copy follow, and keep the keys of this step for the next ones."""
        if self.recent is None:
            return
        self.slow.update(self.model)
        self.queue.push(self.recent, batch.labels)
        self.recent = None

    def embed(self, inputs: Tensor) -> Tensor:
        """The four unit embeddings side by side, that of classes times its weight: (B, D)."""
        return unit_slices(self.output(inputs), self.sizes, [self.class_weight, 1.0, 1.0, 1.0])
