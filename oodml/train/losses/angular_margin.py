"""Softmax with a multiplicative angular margin, brought in slowly."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.objective import Scheduled

# The share of the plain cosine in the target's logit falls as START / (1 + RATE * step) down
# to a floor: base, gamma and power of train/code/sphereface/sphereface_model.prototxt in
# github.com/wy1iu/sphereface.
START = 1000.0
RATE = 0.12


def multiplied_angle(cosine: Tensor, margin: int) -> Tensor:
    """psi(theta) = (-1)^k cos(m theta) - 2k for theta in [k pi / m, (k + 1) pi / m].

    `cosine` holds cos(theta); psi falls from 1 at theta = 0 to 1 - 2m at pi without a jump, and
    is cos(theta) for a margin of 1 (arXiv:1704.08063, equation 7). Any shape, which is kept.
    """
    with torch.no_grad():
        angle = cosine.clamp(-1, 1).acos()
        segment = (angle * (margin / pi)).floor().clamp(max=margin - 1)
    return (1 - 2 * (segment % 2)) * _chebyshev(cosine, margin) - 2 * segment


def _chebyshev(cosine: Tensor, order: int) -> Tensor:
    # cos(m theta) as a polynomial of cos(theta): the derivative of acos has no bound.
    before, now = torch.ones_like(cosine), cosine
    for _ in range(order - 1):
        before, now = now, 2 * cosine * now - before
    return now


class AngularMargin(Scheduled):
    """Softmax over |z| |w_c| cos(theta_c), the target's cosine pulled down towards psi(theta_y).

    The target's logit is |z| |w_y| (a cos(theta_y) + psi(theta_y)) / (1 + a), where a falls from
    1000 to `floor` over the steps. Embeddings (B, d) come as the head
    makes them: their length is the temperature. With `unit_weights`, |w_c| = 1.
    """

    step: Tensor

    def __init__(
        self, num_classes: int, embedding_dim: int, margin: int, floor: float, unit_weights: bool
    ) -> None:
        super().__init__()
        self.margin = margin
        self.floor = floor
        self.unit_weights = unit_weights
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.xavier_uniform_(self.weight)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def begin_step(self, step: int) -> None:
        """Set the step that the margin follows from."""
        self.step.fill_(step)

    @property
    def plain_share(self) -> Tensor:
        """The weight a of the plain cosine beside psi."""
        return (START / (1 + RATE * self.step)).clamp(min=self.floor)

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
