"""Further losses that pytorch-metric-learning has, and why some of its losses are no method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oodml.train.registry import method

if TYPE_CHECKING:
    from oodml.train.losses.manifold import ManifoldSimilarity
    from oodml.train.objective import Criterion


# Every other name in pytorch_metric_learning.losses is a method under a name of its own.
NO_METHOD = {
    "BaseLossWrapper": "what other classes derive from",
    "BaseMetricLossFunction": "what other classes derive from",
    "EmbeddingRegularizerMixin": "what other classes derive from",
    "GenericPairLoss": "what other classes derive from",
    "WeightRegularizerMixin": "what other classes derive from",
    "CrossBatchMemory": "a memory for another loss, not a loss",
    "MultipleLosses": "a sum of other losses",
    "SelfSupervisedLoss": "takes two views of every image in the place of labels",
    "VICRegLoss": "refuses labels: it compares two views of every image",
}


@method("instance", paper="arXiv:1711.05535", source="arXiv:1711.05535")
def instance(num_classes: int, embedding_dim: int) -> Criterion:
    """Instance loss: one plain softmax classifier over the training classes, on raw outputs.

    pytorch-metric-learning 2.9 compares every sample with the first samples of the batch, taking
    labels for places in it; this is the classifier of the paper.
    """
    from oodml.train.losses.classifiers import SoftmaxClassifier
    from oodml.train.objective import Criterion

    return Criterion(
        SoftmaxClassifier(num_classes, embedding_dim), normalized=False, samplewise=True
    )


@method("p2s_grad", paper="arXiv:1905.02479", source="pytorch-metric-learning")
def p2s_grad(num_classes: int, embedding_dim: int) -> Criterion:
    """P2SGrad: squared error of the cosines to the classes' weights, 1 for the own class."""
    from oodml.train.losses.classifiers import CosineRegression
    from oodml.train.objective import Criterion

    return Criterion(CosineRegression(num_classes, embedding_dim), samplewise=True)


@method("manifold", paper="10.1109/CVPR.2019.00747", source="pytorch-metric-learning")
def manifold(
    num_classes: int,
    embedding_dim: int,
    *,
    proxies: int = 50,
    context: float = 1.0,
    walk: float = 0.8,
    margin: float = 5e-4,
) -> ManifoldSimilarity:
    """Manifold similarity: nearness by random walks over the batch and learned proxies.

    Every proxy stands for a random group of classes. `walk` is the share of similarity that a
    step passes on, `context` the weight of comparing whole walks.
    """
    from oodml.train.losses.manifold import ManifoldSimilarity

    return ManifoldSimilarity(
        num_classes, embedding_dim, proxies=proxies, context=context, walk=walk, margin=margin
    )
