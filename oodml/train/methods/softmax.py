"""Losses that classify the training classes with weights of their own."""

from __future__ import annotations

from functools import partial
from math import degrees
from typing import TYPE_CHECKING

from oodml.train.published import STUDY, reality_check
from oodml.train.registry import Recipe, method

if TYPE_CHECKING:
    from oodml.train.objective import Criterion


# Losses that classify take one sample of a class there.
_classifier = partial(reality_check, samples_per_class=1)


@method(
    "normalized_softmax",
    paper="arXiv:1811.12649",
    source="arXiv:1811.12649",
    recipes={
        "cub200": _classifier(4.46e-3, temperature=0.1087),
        "cars196": _classifier(1.1e-2, temperature=0.0886),
        "sop": _classifier(5.5e-4, temperature=0.063),
    },
)
def normalized_softmax(
    num_classes: int, embedding_dim: int, *, temperature: float = 0.05
) -> Criterion:
    """Softmax over cosines to one weight vector a class, divided by a temperature."""
    from pytorch_metric_learning import losses

    from oodml.train.objective import Criterion

    loss = losses.NormalizedSoftmaxLoss(num_classes, embedding_dim, temperature)
    return Criterion(loss, samplewise=True)


@method("sphereface", paper="arXiv:1704.08063", source="github.com/wy1iu/sphereface")
def sphereface(
    num_classes: int, embedding_dim: int, *, margin: int = 4, floor: float = 5.0
) -> Criterion:
    """A-softmax: the angle to the own class counts `margin` times, brought in slowly.

    Embeddings keep their length, which is the temperature. The plain cosine keeps a share of
    floor / (1 + floor) beside the multiplied angle in the end.
    """
    from oodml.train.losses.angular_margin import AngularMargin
    from oodml.train.objective import Criterion

    loss = AngularMargin(num_classes, embedding_dim, margin, floor, unit_weights=True)
    return Criterion(loss, normalized=False)


@method("large_margin_softmax", paper="arXiv:1612.02295", source="github.com/wy1iu/sphereface")
def large_margin_softmax(
    num_classes: int, embedding_dim: int, *, margin: int = 4, floor: float = 5.0
) -> Criterion:
    """L-softmax: SphereFace with class weights of any length.

    pytorch-metric-learning's has the same margin but brings it in all at once.
    """
    from oodml.train.losses.angular_margin import AngularMargin
    from oodml.train.objective import Criterion

    loss = AngularMargin(num_classes, embedding_dim, margin, floor, unit_weights=False)
    return Criterion(loss, normalized=False)


@method(
    "cosface",
    paper="arXiv:1801.09414",
    source="arXiv:1801.09414",
    recipes={
        "cub200": _classifier(2.5e-3, margin=0.618, scale=100.0),
        "cars196": _classifier(7.4e-3, margin=0.432, scale=161.5),
        "sop": _classifier(2.2e-3, margin=0.336, scale=100.0),
    },
)
def cosface(
    num_classes: int, embedding_dim: int, *, margin: float = 0.35, scale: float = 64.0
) -> Criterion:
    """CosFace: softmax over scaled cosines, the own class's lowered by a margin."""
    from pytorch_metric_learning import losses

    from oodml.train.objective import Criterion

    loss = losses.CosFaceLoss(num_classes, embedding_dim, margin=margin, scale=scale)
    return Criterion(loss, samplewise=True)


@method(
    "arcface",
    paper="arXiv:1801.07698",
    source=STUDY,
    recipes={
        family: Recipe(STUDY, network={"criterion_learning_rate": 5e-4})
        for family in ("cub200", "cars196", "sop")
    },
)
def arcface(
    num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 16.0
) -> Criterion:
    """ArcFace: softmax over cosines with an additive angular margin (radians)."""
    from pytorch_metric_learning import losses

    from oodml.train.objective import Criterion

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
    """ArcFace with several weight vectors a class, of which the nearest one counts."""
    from pytorch_metric_learning import losses

    from oodml.train.objective import Criterion

    loss = losses.SubCenterArcFaceLoss(
        num_classes=num_classes,
        embedding_size=embedding_dim,
        margin=degrees(margin),
        scale=scale,
        sub_centers=sub_centers,
    )
    return Criterion(loss, samplewise=True)


_SOFT_TRIPLE_NETWORK = {
    "batch_size": 32,
    "learning_rate": 1e-4,
    "criterion_learning_rate": 1e-2,
    "optimizer_epsilon": 0.01,
    "weight_decay": 1e-4,
    "schedule": "step",
    "decay": 0.1,
    "decay_every": 20,
}


@method(
    "soft_triple",
    paper="arXiv:1909.05235",
    source="github.com/idstcv/SoftTriple",
    batches="shuffled",
    network=_SOFT_TRIPLE_NETWORK,
)
def soft_triple(
    num_classes: int,
    embedding_dim: int,
    *,
    centers_per_class: int = 10,
    scale: float = 20.0,
    gamma: float = 0.1,
    margin: float = 0.01,
    tau: float = 0.2,
) -> Criterion:
    """SoftTriple: softmax over classes with several centres each, which are drawn together."""
    from oodml.train.losses.soft_triple import SoftTriple
    from oodml.train.objective import Criterion

    loss = SoftTriple(num_classes, embedding_dim, centers_per_class, scale, gamma, margin, tau)
    return Criterion(loss, samplewise=True)
