"""Losses between samples and one learned proxy a class."""

from __future__ import annotations

from pytorch_metric_learning import losses

from oodml.train.objective import Criterion
from oodml.train.registry import method


@method("proxy_anchor", paper="arXiv:2003.13911")
def proxy_anchor(
    num_classes: int, embedding_dim: int, *, margin: float = 0.1, alpha: float = 32.0
) -> Criterion:
    """Proxy Anchor: every proxy pulls its samples and pushes all others of the batch."""
    return Criterion(losses.ProxyAnchorLoss(num_classes, embedding_dim, margin, alpha))
