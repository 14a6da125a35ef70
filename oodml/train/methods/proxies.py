"""Losses between samples and proxies, learned vectors that represent the classes."""

from __future__ import annotations

import math

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.objective import Criterion
from oodml.train.registry import method

# Keeps the square root's gradient finite where two centres coincide (github.com/idstcv/SoftTriple).
EPSILON = 1e-5
# Larger than any difference of two cosines: a sample's own proxies rank before all others.
FIRST = 10.0
# Proxies drawn per step for the proxies' own loss: the paper's 12 for each of 100 classes.
MOST_COMPARED = 1200
# Temperature of the random walk's transition weights, as in pytorch-metric-learning.
_WIDTH = 0.5


class _UnitProxies(Criterion):
    def __init__(self, num_classes: int, embedding_dim: int) -> None:
        super().__init__(samplewise=True)
        # N(0, 1) / 8, as in ProxyNCA's and ProxyNCA++'s own code.
        self.proxies = nn.Parameter(torch.randn(num_classes, embedding_dim) / 8)

    def squared_distances(self, embeddings: Tensor) -> Tensor:
        """Squared distances (B, C) between unit embeddings (B, d) and unit proxies."""
        return 2 - 2 * embeddings @ functional.normalize(self.proxies, dim=1).T


@method("proxy_nca", paper="arXiv:1703.07464", source="arXiv:1703.07464")
class ProxyNCA(_UnitProxies):
    """ProxyNCA: NCA with one proxy per class in place of the other samples.

    -log(exp(-s^2 D_y^2) / sum over c != y of exp(-s^2 D_c^2)), where `scale` s is the length of all
    vectors. As in the paper the sum excludes the sample's own proxy, so the loss may be negative.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, scale: float = 3.0) -> None:
        super().__init__(num_classes, embedding_dim)
        self.scale = scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over unit embeddings (B, d) with labels (B,)."""
        logits = -(self.scale**2) * self.squared_distances(embeddings)
        own = logits.gather(1, labels[:, None])
        others = logits.scatter(1, labels[:, None], -torch.inf)
        return (others.logsumexp(dim=1) - own[:, 0]).mean()


@method(
    "proxy_nca_pp",
    paper="arXiv:2004.01113",
    source="arXiv:2004.01113",
)
class ProxyNCAPlusPlus(_UnitProxies):
    """ProxyNCA++: softmax cross-entropy over squared distances to the proxies, with a temperature.

    Unlike in ProxyNCA the sum includes the own proxy. As a cross-entropy it stays exact where
    pytorch-metric-learning's form, the logarithm of a probability, underflows and drops the hardest
    samples. The paper's LayerNorm without weights before the head is left out.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, temperature: float = 1 / 9) -> None:
        super().__init__(num_classes, embedding_dim)
        self.temperature = temperature

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over unit embeddings (B, d) with labels (B,)."""
        return functional.cross_entropy(
            -self.squared_distances(embeddings) / self.temperature, labels
        )


@method(
    "proxy_anchor",
    paper="arXiv:2003.13911",
    source="arXiv:2003.13911",
)
def proxy_anchor(
    num_classes: int, embedding_dim: int, *, margin: float = 0.1, alpha: float = 32.0
) -> Criterion:
    """Proxy Anchor: proxies as anchors that attract their class's samples and repel others."""
    return Criterion(losses.ProxyAnchorLoss(num_classes, embedding_dim, margin, alpha))


@method(
    "soft_triple",
    paper="arXiv:1909.05235",
    source="github.com/idstcv/SoftTriple",
    batches="shuffled",
)
class SoftTriple(Criterion):
    """SoftTriple: softmax over classes with several centres each, regularised to merge.

    Cross-entropy over scale * (q_c - margin [c = y]) plus a regulariser. q_c is the mean of the
    cosines to the K centres of a class, weighted by their softmax at temperature `gamma`. The
    regulariser is tau / (C K (K - 1)) times the sum of the distances between centres of one class,
    so that superfluous centres merge. It is computed class by class: pytorch-metric-learning 2.9
    compares all C K centres with each other.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        centers_per_class: int = 10,
        scale: float = 20.0,
        gamma: float = 0.1,
        margin: float = 0.01,
        tau: float = 0.2,
    ) -> None:
        super().__init__(samplewise=True)
        self.scale, self.gamma, self.margin, self.tau = scale, gamma, margin, tau
        self.centers = nn.Parameter(torch.empty(centers_per_class, num_classes, embedding_dim))
        nn.init.uniform_(self.centers, -1 / math.sqrt(embedding_dim), 1 / math.sqrt(embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over unit embeddings (B, d) with labels (B,), plus the regulariser."""
        centers = functional.normalize(self.centers, dim=2)
        similarity = (embeddings @ centers.flatten(0, 1).T).view(-1, *centers.shape[:2])
        classes = (functional.softmax(similarity / self.gamma, dim=1) * similarity).sum(dim=1)
        own = functional.one_hot(labels, centers.shape[1])
        loss = functional.cross_entropy(self.scale * (classes - self.margin * own), labels)
        if not self.tau or len(centers) == 1:
            return loss
        return loss + self.tau * center_spread(centers)


def center_spread(centers: Tensor) -> Tensor:
    """Half the mean distance between two centres of one class; `centers` is (K, C, d), unit."""
    number = len(centers)
    first, second = torch.triu_indices(number, number, offset=1, device=centers.device)
    by_class = centers.transpose(0, 1)
    cosine = (by_class @ by_class.transpose(1, 2))[:, first, second]
    return (2 + EPSILON - 2 * cosine.clamp(max=1)).sqrt().mean() / 2


@method(
    "proxy_gml",
    paper="arXiv:2010.13636",
    source="github.com/YuehuaZhu/ProxyGML, for CUB200-2011 and Cars196",
    batches="shuffled",
)
class ProxyGraph(Criterion):
    """ProxyGML: softmax over the classes reached through each sample's nearest proxies.

    Every class has N proxies; the k nearest proxies of each sample count, where k is the share
    `ratio` of all C N proxies, and at least 2 N: with N only the own class would be left and the
    loss would be 0. `weight` times the same loss from proxy to proxy keeps the proxies of a class
    together: over all of them, or over 1,200 drawn anew at every step where there are more.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        proxies_per_class: int = 12,
        ratio: float = 0.05,
        weight: float = 0.3,
    ) -> None:
        super().__init__(samplewise=True)
        count = num_classes * proxies_per_class
        self.num_classes, self.proxies_per_class = num_classes, proxies_per_class
        self.nearest = min(count, max(math.ceil(ratio * count), 2 * proxies_per_class))
        self.weight = weight
        self.proxies = nn.Parameter(torch.empty(count, embedding_dim))
        nn.init.kaiming_uniform_(self.proxies, a=math.sqrt(5))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over unit embeddings (B, d) with labels (B,), plus the proxies' own loss."""
        proxies = functional.normalize(self.proxies, dim=1)
        similarity = embeddings @ proxies.T
        kept = nearest_proxies(similarity, labels, self.proxies_per_class, self.nearest)
        loss = propagated_loss(similarity, kept, labels, self.num_classes)
        if not self.weight:
            return loss
        return loss + self.weight * self._between(proxies)

    def _between(self, proxies: Tensor) -> Tensor:
        # (P P^T) Y = P (P^T Y): the C N x C N similarities are never formed.
        sums = proxies.view(self.num_classes, self.proxies_per_class, -1).sum(dim=1)
        classes = torch.arange(self.num_classes, device=proxies.device)
        own = classes.repeat_interleave(self.proxies_per_class)
        if len(own) > MOST_COMPARED:
            drawn = torch.randperm(len(own), device=own.device)[:MOST_COMPARED]
            proxies, own = proxies[drawn], own[drawn]
        return functional.cross_entropy(proxies @ sums.T, own)


def nearest_proxies(similarity: Tensor, labels: Tensor, proxies_per_class: int, k: int) -> Tensor:
    """Which k proxies each sample keeps, those of its class always among them: (B, C N) bool.

    Proxies of a class are contiguous. The own class's are ranked first; similarities do not change.
    """
    classes = torch.arange(similarity.shape[1], device=labels.device) // proxies_per_class
    ranks = similarity.detach() + FIRST * (classes == labels[:, None])
    kept = torch.zeros_like(similarity, dtype=torch.bool)
    return kept.scatter_(1, ranks.topk(k, dim=1, sorted=False).indices, True)


def propagated_loss(similarity: Tensor, kept: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean of -log softmax at the label, over the classes that have a kept proxy.

    A class's logit is the sum of the similarities of its kept proxies. Which classes take part
    follows from `kept` alone: similarities that sum to 0 do not drop their class. `similarity` is
    (B, p), `kept` a mask (B, p), `labels` (B,); the loss is a scalar.
    """
    mass = (similarity * kept).view(len(labels), num_classes, -1).sum(dim=2)
    reached = kept.view(len(labels), num_classes, -1).any(dim=2)
    return functional.cross_entropy(mass.masked_fill(~reached, -torch.inf), labels)


@method("manifold", paper="10.1109/CVPR.2019.00747", source="pytorch-metric-learning")
class ManifoldSimilarity(Criterion):
    """Manifold similarity: similarities by random walks over the batch and learned proxies.

    Every proxy represents a random group of classes. `walk` is the share of similarity that a step
    of the walk passes on, `context` the weight of comparing whole walk distributions.
    pytorch-metric-learning expects the group of every sample in place of index tuples, or draws one
    per sample without regard to labels; for given groups its values equal these.
    """

    groups: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        proxies: int = 50,
        context: float = 1.0,
        walk: float = 0.8,
        margin: float = 5e-4,
    ) -> None:
        super().__init__()
        count = min(proxies, num_classes)
        self.proxies = nn.Parameter(torch.randn(count, embedding_dim))
        self.register_buffer("groups", torch.randperm(num_classes) % count)
        self.context = context
        self.walk = walk
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The scalar loss of unit-length embeddings (B, D)."""
        nodes = functional.normalize(torch.cat([embeddings, self.proxies]), dim=1)
        samples, groups = len(embeddings), self.groups[labels]
        reached = walked(nodes, self.walk)
        walks = functional.normalize(reached, dim=1)
        intrinsic = self._softmax(reached[:samples, samples:], groups)
        contextual = self._softmax(walks[:samples] @ walks[samples:].T, groups)
        return intrinsic + self.context * contextual

    def _softmax(self, nearness: Tensor, groups: Tensor) -> Tensor:
        # Proxies farther than the own one by more than the margin are excluded from the sum.
        excess = nearness - nearness.gather(1, groups[:, None]) + self.margin
        others = torch.ones_like(excess, dtype=torch.bool).scatter_(1, groups[:, None], False)
        violating = torch.where(others & (excess >= 0), excess, -torch.inf)
        return violating.exp().sum(1).log1p().mean()


def walked(nodes: Tensor, walk: float) -> Tensor:
    """The stationary similarities (n, n) of random walks that continue with probability `walk`."""
    identity = torch.eye(len(nodes), dtype=nodes.dtype, device=nodes.device)
    steps = ((nodes @ nodes.T).clamp(min=0) / _WIDTH).exp() * (1 - identity)
    scale = steps.sum(1).rsqrt()
    back = identity - walk * scale[:, None] * steps * scale[None, :]
    found: Tensor = torch.linalg.inv(back)
    return (1 - walk) * found
