"""DiVA: class-discriminative, class-shared, intra-class and sample-specific features."""

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

# Class-discriminative, sample-specific, class-shared and intra-class heads, of equal size.
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
    """DiVA: heads for class-discriminative, sample-specific, shared and intra-class features.

    L = L_class + alpha (L_self + L_shared + L_intra) + decorrelation * the sum of the adversaries'
    losses. `decorrelation` holds for heads of 128 dimensions and is scaled by (dimension / 128)^2.
    L_self (DaNCE) contrasts two views of an image, the second encoded by a momentum copy of the
    network (`momentum`), with a queue of the last `queue_batches` batches of keys, whatever their
    class. Triplets of L_intra are three different samples of one class, so there are none with two
    samples per class.

    The embedding's dimensions are divided among the heads, so that DiVA has as many as another
    method (4 x 128 beside 512 in the study). Retrieval concatenates the four unit embeddings, the
    class-discriminative one times `class_weight` (1 or less in the paper, which trains the whole
    network).
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
        """If the queue is empty, fill it with keys of training samples, as far as they go."""
        if not self.alpha or int(self.queue.pushed):
            return
        order = generator(training.seed, "queue").permutation(len(training.labels))
        rows = order[: len(self.queue.labels)]
        keys = training.encode(self, self._keys, rows)
        self.queue.push(keys.to(training.device), training.labels[rows].to(training.device))

    def _keys(self, inputs: Tensor) -> Tensor:
        """The momentum copy's sample-specific embeddings of inputs: (B, d)."""
        with self.autocast(inputs):
            output = self.slow(inputs)
        return functional.normalize(torch.split(output, self.sizes, dim=1)[1], dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """The class loss plus the weighted losses of the other heads and of the adversaries."""
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
        """Update the momentum copy, and push the keys of this step into the queue."""
        if self.recent is None:
            return
        self.slow.update(self.model)
        self.queue.push(self.recent, batch.labels)
        self.recent = None

    def embed(self, inputs: Tensor) -> Tensor:
        """Unit embeddings (B, D), concatenated, the class-discriminative one times its weight."""
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

    `queries` and their `keys` are unit vectors (B, d), `queue` (K, d) holds the negative keys k_j;
    no gradient reaches keys. w_j is the distance-weighted sampling weight of k_j divided by the
    largest weight of the same query, and 0 from distance `upper` on. The published code divides by
    a sum instead, first over the queries and in a later version over the queue; divided by the
    largest, keys at equal distances count fully, and the loss of a queue of K copies of the key is
    ln(K + 1).
    """
    keys, queue = keys.detach(), queue.detach()
    positive = (queries * keys).sum(1, keepdim=True)
    negative = queries @ queue.T
    weights = _weights(negative.detach(), queries.shape[1], cutoff, upper)
    logits = torch.cat([positive, negative * weights], dim=1) / temperature
    first = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    return functional.cross_entropy(logits, first)


class WithinClasses(TripletMiner):
    """One random intra-class triplet for every sample whose class has two others in the batch.

    The code of arXiv:2004.13458 draws the three samples with replacement, so that with two samples
    per class every triplet repeats a sample; here the three are different samples.
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


def _weights(cosines: Tensor, dimension: int, cutoff: float, upper: float) -> Tensor:
    """Weights (B, K), the largest of every row 1; a row is all 0 where no key is in range."""
    distances = (2 - 2 * cosines).clamp(min=0).sqrt()
    logits = DistanceWeighted(cutoff, upper).log_weights(distances, dimension)
    logits = logits.masked_fill(distances >= upper, -torch.inf)
    if not logits.shape[1]:
        return logits
    largest = logits.amax(1, keepdim=True)
    return (logits - largest.nan_to_num(neginf=0.0)).exp()
