"""The embedding model: a trunk or standardised features, then a linear head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import UsageError, unknown_name
from oodml.features.backbones.network import MeanPool, put
from oodml.features.backbones.registry import Backbone

DEFAULT_POOLING = "default"


class EmbeddingModel(nn.Module):
    """A `trunk` (B, ...) -> (B, dimension), then a linear `head` -> (B, embedding_dim).

    The output is not normalised; objectives scale it to unit length.
    """

    def __init__(self, trunk: nn.Module, dimension: int, embedding_dim: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.embedding_dim = embedding_dim
        self.trunk = trunk
        self.head = nn.Linear(dimension, embedding_dim)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.head(self.trunk(inputs))
        return output


class Standardize(nn.Module):
    """Features (B, C) minus the training mean, over the training standard deviation."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        deviation, mean = torch.std_mean(features, dim=0, correction=0)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(deviation > 0, deviation, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale


def trunk(
    backbone: Backbone, *, pooling: str = DEFAULT_POOLING, freeze_batchnorm: bool = True
) -> tuple[nn.Module, int]:
    """A trainable copy of a backbone, (B, 3, H, W) to (B, C) pooled features, and C.

    `pooling` is "default" (the network's own) or one of `POOLINGS`, which replaces it; layers
    behind it, such as ConvNeXt's last normalisation, are kept. With `freeze_batchnorm` BatchNorm
    keeps its running statistics, also after `train()`; its scales and offsets are trained. Raises
    `UsageError` for an unknown pooling, and for networks that pool no feature map (transformers of
    tokens, attention pooling, layers that depend on positions).
    """
    module = deepcopy(backbone.module)
    if pooling != DEFAULT_POOLING:
        put(module, pool_of(backbone, pooling), POOLINGS[pooling]())
    return (FrozenBatchNorm(module) if freeze_batchnorm else module), backbone.dimension


def slice_sizes(dimension: int, shares: Sequence[int]) -> list[int]:
    """The sizes of slices in the ratio of `shares` that make up `dimension`, as near as can be.

    Raises `UsageError` where a slice would have no dimension.

    >>> slice_sizes(512, [3, 5, 8])
    [96, 160, 256]
    """
    total = sum(shares)
    borders = [dimension * sum(shares[:number]) / total for number in range(len(shares) + 1)]
    sizes = [round(after) - round(before) for before, after in pairwise(borders)]
    if not sizes or min(sizes) < 1:
        raise UsageError(
            f"an embedding of {dimension} dimensions has no {len(shares)} heads in the ratio "
            f"{'-'.join(map(str, shares))}; give fewer heads, or a larger embedding_dim."
        )
    return sizes


def unit_slices(output: Tensor, sizes: Sequence[int], weights: Sequence[float]) -> Tensor:
    """Each slice of an output (B, D) at unit length times its weight, the whole at unit length.

    The cosine of two outputs is the mean of their slices' cosines weighted by the squared weights.
    The gradient of a slice depends on that slice alone.
    """
    length = math.hypot(*weights)
    units = [functional.normalize(part, dim=1) for part in torch.split(output, list(sizes), dim=1)]
    return torch.cat([w / length * unit for w, unit in zip(weights, units, strict=True)], dim=1)


class MaxPool(nn.Module):
    """The maximum over all positions: (B, C, h, w) to (B, C, 1, 1)."""

    def forward(self, maps: Tensor) -> Tensor:
        return functional.adaptive_max_pool2d(maps, 1)


class MeanAndMaxPool(nn.Module):
    """The sum of mean and maximum over all positions, as Proxy Anchor pools (arXiv:2003.13911)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3), keepdim=True) + functional.adaptive_max_pool2d(maps, 1)


class GeneralizedMeanPool(nn.Module):
    """(mean of u^p)^(1/p) over all positions, p trainable from 3 (GeM, arXiv:1711.02512).

    p = 1 is the mean and a large p the maximum. Values below 1e-6 count as 1e-6; computed in
    float32, since powers leave the range of half precision.
    """

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, maps: Tensor) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            powers = maps.float().clamp(min=1e-6).pow(self.power)
            return powers.mean(dim=(2, 3), keepdim=True).pow(1 / self.power).to(maps.dtype)


POOLINGS: dict[str, type[nn.Module]] = {
    "avg": MeanPool,
    "max": MaxPool,
    "avg+max": MeanAndMaxPool,
    "gem": GeneralizedMeanPool,
}


class FrozenBatchNorm(nn.Module):
    """A backbone whose BatchNorm layers keep their running statistics in training.

    Their scales and offsets are trained, as in the published study, which sets these layers to
    evaluation mode and freezes nothing else.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.train(self.training)

    def _layers(self) -> list[nn.Module]:
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
        return [layer for layer in self.backbone.modules() if isinstance(layer, kinds)]

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        super().train(mode)
        for layer in self._layers():
            layer.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images)
        return features


def pool_of(backbone: Backbone, pooling: str) -> str:
    """The layer that a pooling takes the place of; `UsageError` where there is none."""
    if pooling not in POOLINGS:
        raise unknown_name("pooling", pooling, [DEFAULT_POOLING, *POOLINGS])
    if backbone.pool is None:
        raise UsageError(
            f"backbone {backbone.name!r} pools no feature map, so pooling={pooling!r} does "
            f"not apply; use pooling={DEFAULT_POOLING!r}."
        )
    return backbone.pool
