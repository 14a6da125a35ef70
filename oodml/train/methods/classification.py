"""Losses that classify the training classes with weights of their own."""

from __future__ import annotations

from math import degrees

from pytorch_metric_learning import losses

from oodml.train.objective import Criterion
from oodml.train.registry import method


@method("arcface", paper="arXiv:1801.07698")
def arcface(
    num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 16.0
) -> Criterion:
    """ArcFace: softmax over cosines with an additive angular margin (radians)."""
    return Criterion(
        losses.ArcFaceLoss(num_classes, embedding_dim, margin=degrees(margin), scale=scale)
    )
