"""DiVA: embeddings of what tells classes apart, what they share, and what varies in them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.seeding import generator
from oodml.train.distributed import gathered
from oodml.train.methods.parts.mining import DistanceWeighted, TripletMiner, Triplets
from oodml.train.methods.parts.queue import MomentumCopy, Queue
from oodml.train.methods.parts.several_heads import (
    SeveralHeads,
    SharedByClasses,
)
from oodml.train.model import EmbeddingModel, slice_sizes, unit_slices
from oodml.train.objective import Batch, Criterion, Encoded, Training
from oodml.train.published_protocols import STUDY
from oodml.train.registry import Base, method

# Classes, self-similarity, shared, intra-class: of equal size.
SHARES = (1, 1, 1, 1)


@method(
    "diva",
    paper="arXiv:2004.13458",
    source=f"{STUDY}, SOP; samples_per_class chosen here: triplets within a class need three; "
    "class_weight for heads on frozen features, by validation classes",
    heads="4 slices, concatenated",
    needs="two views",
    samples_per_class=4,
    cached_views=4,
)
class DiVA(SeveralHeads):
    """DiVA: four heads, for classes, self-similarity, what classes share, and what varies in them.

    L = L_class + alpha (L_self + L_shared + L_intra) + decorrelation * the sum of adversaries, the
    last for heads of 128 dimensions, from which it is scaled by (dimension / 128)^2.
    Self-similarity contrasts two views of an image, the second seen by a slow copy of the network
    that follows with `momentum`, with a queue of `queue_batches` batches of what the copy made of
    other images, whatever their class. Triplets within a class are of three different samples, so
    there are none with two samples a class.

    The dimensions are divided among the heads, so that the four together are as many as another
    method's (4 x 128 beside 512 in the study). Retrieval compares the four unit embeddings side by
    side, that of classes times `class_weight` (1 or less in the paper, which trains the network).
    """

    views = 2

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
        *,
        base: Base = Base("margin"),  # noqa: B008 (a frozen record)
        alpha: float = 0.2,
        decorrelation: float = 150.0,
        class_weight: float = 3.0,
        temperature: float = 0.01,
        momentum: float = 0.9,
        queue_batches: int = 30,
    ) -> None:
        sizes = slice_sizes(model.embedding_dim, SHARES)
        own, _, shared, intra = (
            base.criterion(num_classes, size, takes_pairs=True) for size in sizes
        )
        others = [
            SharedByClasses(shared, True),
            Criterion(intra, WithinClasses(), normalized=intra.normalized),
        ]
        super().__init__(
            spec, model, criterion=own, others=others, sizes=sizes, decorrelation=decorrelation
        )
        self.sizes, self.alpha, self.temperature = sizes, alpha, temperature
        self.class_weight = class_weight
        self.slow = MomentumCopy(model, momentum)
        self.queue = Queue(max(queue_batches, 1) * spec.training.batch_size, sizes[1])
        self.recent: Tensor | None = None

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Fill the queue, as far as there are training samples, if it is still empty."""
        if not self.alpha or int(self.queue.pushed):
            return
        order = generator(training.seed, "queue").permutation(len(training.labels))
        rows = order[: len(self.queue.labels)]
        keys = training.encode(self, self._keys, rows)
        self.queue.push(keys.to(training.device), training.labels[rows].to(training.device))

    def _keys(self, inputs: Tensor) -> Tensor:
        """What the slow copy makes of inputs, the slice of self-similarity: (B, d)."""
        with self.autocast(inputs):
            output = self.slow(inputs)
        return functional.normalize(torch.split(output, self.sizes, dim=1)[1], dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of classes, the other three, and what the adversaries find in common."""
        encoded = self.encode(batch.inputs)
        own, similar, shared, intra = (
            Encoded.of(encoded.pooled, part)
            for part in torch.split(encoded.output, self.sizes, dim=1)
        )
        value = self.criterion.of(own, batch.labels)
        if self.alpha:
            of_others = self._of_itself(similar.embedding, batch)
            for criterion, part in zip(self.others, (shared, intra), strict=True):
                of_others = of_others + criterion.of(part, batch.labels)
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


def distance_weighted_contrast(
    queries: Tensor,
    keys: Tensor,
    queue: Tensor,
    *,
    temperature: float,
    cutoff: float = 0.5,
    upper: float = 1.4,
) -> Tensor:
    """Mean of -log(exp(q k / T) / (exp(q k / T) + sum_j exp(w_j q k_j / T))), arXiv:2004.13458.

    `queries` and their `keys` are unit vectors (B, d), `queue` (K, d) the keys k_j of others; no
    gradient reaches keys. w_j is the distance-weighted miner's weight of k_j over the largest of
    its query, 0 from distance `upper` on. The published code divides the weights by a sum, at
    first over the queries and later over the queue; divided by the largest, keys at equal
    distances count fully, and the loss of a queue of K copies of the key is ln(K + 1).
    """
    keys, queue = keys.detach(), queue.detach()
    positive = (queries * keys).sum(1, keepdim=True)
    negative = queries @ queue.T
    weights = _weights(negative.detach(), queries.shape[1], cutoff, upper)
    logits = torch.cat([positive, negative * weights], dim=1) / temperature
    first = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    return functional.cross_entropy(logits, first)


def _weights(cosines: Tensor, dimension: int, cutoff: float, upper: float) -> Tensor:
    """Weights (B, K) of which the largest of every row is 1; 0 all along where none is allowed."""
    distances = (2 - 2 * cosines).clamp(min=0).sqrt()
    logits = DistanceWeighted(cutoff, upper).log_weights(distances, dimension)
    logits = logits.masked_fill(distances >= upper, -torch.inf)
    if not logits.shape[1]:
        return logits
    largest = logits.amax(1, keepdim=True)
    return (logits - largest.nan_to_num(neginf=0.0)).exp()


class WithinClasses(TripletMiner):
    """One triplet for every sample whose class has two others in the batch, drawn at random.

    The code of arXiv:2004.13458 draws the three with replacement, so that with two samples a class
    every triplet has a sample twice; here the three are different samples.
    """

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        same = (labels[:, None] == labels[None, :]).fill_diagonal_(False)
        anchors = torch.nonzero(same.sum(1) > 1).flatten()
        if not len(anchors):
            return anchors, anchors, anchors
        drawn = torch.multinomial(same[anchors].float(), 2)
        return anchors, drawn[:, 0], drawn[:, 1]
