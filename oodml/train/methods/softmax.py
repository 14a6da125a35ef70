"""Classification losses: softmax over classes, with one or several weight vectors each."""

from __future__ import annotations

from math import degrees, pi

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.objective import Criterion, Scheduled
from oodml.train.published_protocols import STUDY
from oodml.train.registry import method

# The weight of the plain cosine in the target's logit is annealed as START / (1 + RATE * step)
# down to a floor: base, gamma and power of train/code/sphereface/sphereface_model.prototxt in
# github.com/wy1iu/sphereface.
START = 1000.0
RATE = 0.12


@method(
    "normalized_softmax",
    paper="arXiv:1811.12649",
    source="arXiv:1811.12649",
)
def normalized_softmax(
    num_classes: int, embedding_dim: int, *, temperature: float = 0.05
) -> Criterion:
    """Normalised softmax: cross-entropy over cosines to class weights, with a temperature."""
    loss = losses.NormalizedSoftmaxLoss(num_classes, embedding_dim, temperature)
    return Criterion(loss, samplewise=True)


@method(
    "cosface",
    paper="arXiv:1801.09414",
    source="arXiv:1801.09414",
)
def cosface(
    num_classes: int, embedding_dim: int, *, margin: float = 0.35, scale: float = 64.0
) -> Criterion:
    """CosFace: softmax over scaled cosines, with an additive margin on the own class's cosine."""
    loss = losses.CosFaceLoss(num_classes, embedding_dim, margin=margin, scale=scale)
    return Criterion(loss, samplewise=True)


@method(
    "arcface",
    paper="arXiv:1801.07698",
    source=STUDY,
)
def arcface(
    num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 16.0
) -> Criterion:
    """ArcFace: softmax over cosines with an additive angular margin (radians)."""
    loss = losses.ArcFaceLoss(num_classes, embedding_dim, margin=degrees(margin), scale=scale)
    return Criterion(loss, samplewise=True)


@method("sub_center_arcface", paper="10.1007/978-3-030-58621-8_43", source=f"{STUDY}, of ArcFace")
def sub_center_arcface(
    num_classes: int,
    embedding_dim: int,
    *,
    margin: float = 0.5,
    scale: float = 16.0,
    sub_centers: int = 3,
) -> Criterion:
    """Sub-center ArcFace: ArcFace with several weight vectors per class; the nearest one counts."""
    loss = losses.SubCenterArcFaceLoss(
        num_classes=num_classes,
        embedding_size=embedding_dim,
        margin=degrees(margin),
        scale=scale,
        sub_centers=sub_centers,
    )
    return Criterion(loss, samplewise=True)


class AngularMargin(Criterion, Scheduled):
    """Softmax over |z| |w_c| cos(theta_c), the target's cosine annealed towards psi(theta_y).

    The target's logit is |z| |w_y| (a cos(theta_y) + psi(theta_y)) / (1 + a), where a falls from
    1000 to `floor` over the steps. Embeddings (B, d) are the head's unnormalised outputs: their
    length acts as an inverse temperature. With `unit_weights`, |w_c| = 1.
    """

    def __init__(
        self, num_classes: int, embedding_dim: int, margin: int, floor: float, unit_weights: bool
    ) -> None:
        super().__init__(normalized=False)
        self.margin, self.floor, self.unit_weights = margin, floor, unit_weights
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.xavier_uniform_(self.weight)
        self.step = 0

    def begin_step(self, step: int) -> None:
        """Set the step of the annealing schedule."""
        self.step = step

    @property
    def plain_share(self) -> Tensor:
        """The weight a of the plain cosine beside psi."""
        return (START / (1 + RATE * torch.tensor(self.step))).clamp(min=self.floor)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of a batch with labels (B,)."""
        length = embeddings.norm(dim=1, keepdim=True)
        if not self.unit_weights:
            length = length * self.weight.norm(dim=1)
        cosine = (
            functional.normalize(embeddings, dim=1) @ functional.normalize(self.weight, dim=1).T
        )
        own = cosine.gather(1, labels[:, None])
        share = self.plain_share
        target = (share * own + multiplied_angle(own, self.margin)) / (1 + share)
        return functional.cross_entropy(cosine.scatter(1, labels[:, None], target) * length, labels)


@method("sphereface", paper="arXiv:1704.08063", source="github.com/wy1iu/sphereface")
def sphereface(
    num_classes: int, embedding_dim: int, *, margin: int = 4, floor: float = 5.0
) -> AngularMargin:
    """SphereFace (A-softmax): a multiplicative angular margin, annealed over the first steps.

    Embeddings keep their length, which acts as an inverse temperature. In the end the plain cosine
    still has the weight floor / (1 + floor) beside the multiplied angle.
    """
    return AngularMargin(num_classes, embedding_dim, margin, floor, unit_weights=True)


@method("large_margin_softmax", paper="arXiv:1612.02295", source="github.com/wy1iu/sphereface")
def large_margin_softmax(
    num_classes: int, embedding_dim: int, *, margin: int = 4, floor: float = 5.0
) -> AngularMargin:
    """L-softmax: SphereFace with class weights of any length.

    pytorch-metric-learning's has the same margin, but does not anneal it.
    """
    return AngularMargin(num_classes, embedding_dim, margin, floor, unit_weights=False)


@method("instance", paper="arXiv:1711.05535", source="arXiv:1711.05535")
class Instance(Criterion):
    """Instance loss: softmax cross-entropy over the training classes, on unnormalised outputs.

    pytorch-metric-learning 2.9 compares every sample with the first samples of the batch, as it
    uses labels as positions in the batch; this is the classifier of the paper.
    """

    def __init__(self, num_classes: int, embedding_dim: int) -> None:
        super().__init__(normalized=False, samplewise=True)
        self.weight = nn.Linear(embedding_dim, num_classes, bias=False).weight

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of unnormalised outputs (B, D)."""
        return functional.cross_entropy(embeddings @ self.weight.T, labels)


@method("p2s_grad", paper="arXiv:1905.02479", source="pytorch-metric-learning")
class P2SGrad(Criterion):
    """P2SGrad: mean squared error of the cosines to class weights, with target 1 for the own class.

    Equal to pytorch-metric-learning 2.9's values, which however rescales its weights outside of the
    optimiser at every step, and yields NaN for an embedding of length 0.
    """

    def __init__(self, num_classes: int, embedding_dim: int) -> None:
        super().__init__(samplewise=True)
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim).uniform_(-1, 1))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean squared error of unit-length embeddings (B, D); other classes' target is 0."""
        cosines = embeddings @ functional.normalize(self.weight, dim=1).T
        own = functional.one_hot(labels, len(self.weight)).to(cosines.dtype)
        return functional.mse_loss(cosines, own)


def multiplied_angle(cosine: Tensor, margin: int) -> Tensor:
    """psi(theta) = (-1)^k cos(m theta) - 2k for theta in [k pi / m, (k + 1) pi / m].

    `cosine` holds cos(theta), in any shape; psi decreases continuously from 1 at theta = 0 to 1 -
    2m at pi, and is cos(theta) for a margin of 1 (arXiv:1704.08063, equation 7).
    """
    with torch.no_grad():
        angle = cosine.clamp(-1, 1).acos()
        segment = (angle * (margin / pi)).floor().clamp(max=margin - 1)
    return (1 - 2 * (segment % 2)) * _chebyshev(cosine, margin) - 2 * segment


def _chebyshev(cosine: Tensor, order: int) -> Tensor:
    # cos(m theta) as a polynomial of cos(theta): the derivative of acos is unbounded.
    before, now = torch.ones_like(cosine), cosine
    for _ in range(order - 1):
        before, now = now, 2 * cosine * now - before
    return now
