"""What the first stage of a network sees, before it knows of classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Maps of more than this share of the input's side; a residual network's first stage has 1/4.
SHARE = 1 / 8
GRID = 2


def stage_features(trunk: nn.Module, inputs: Tensor) -> Tensor:
    """Unit-length features (B, D) of a network's first stage, for inputs (B, ...), float32.

    The stage's feature map is the last one whose side is more than an eighth of the image's,
    averaged over 2 x 2 parts. Where there is none (transformers, cached features) these are the
    trunk's own features.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and _is_large(output, inputs):
            seen[:] = [output]

    handles = [module.register_forward_hook(keep) for module in trunk.modules()]
    try:
        pooled: Tensor = trunk(inputs)
    finally:
        for handle in handles:
            handle.remove()
    found = functional.adaptive_avg_pool2d(seen[0], GRID).flatten(1) if seen else pooled
    return functional.normalize(found.float(), dim=1)


def _is_large(output: Tensor, inputs: Tensor) -> bool:
    return inputs.ndim == 4 and output.shape[-1] > SHARE * inputs.shape[-1]


def minus_class_means(values: Tensor, labels: Tensor) -> Tensor:
    """Rows (n, D) minus the mean of their class; `labels` (n,) count the classes from 0."""
    classes = int(labels.max()) + 1
    sums = torch.zeros(classes, values.shape[1], dtype=torch.float64).index_add_(
        0, labels, values.double()
    )
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return values - (sums / counts[:, None]).float()[labels]
