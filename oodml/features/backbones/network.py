"""Turning a classification network into a backbone: classifier removed, pooling layer found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oodml.errors import UsageError
from oodml.features.backbones.registry import Backbone
from oodml.features.preprocessing import Preprocessing

Weights = str | Path | None


def assembled(
    name: str,
    module: nn.Module,
    transform: Preprocessing,
    dimension: int,
    weights: str,
    pool: str | None,
) -> Backbone:
    """The record of a network with loaded weights, whose SHA-256 is `weights`."""
    return Backbone(
        name=name,
        module=module.eval(),
        transform=transform,
        dimension=dimension,
        weights=weights,
        preprocessing=transform.text,
        image_size=transform.size,
        pool=pool,
    )


def checked(backbone: Backbone) -> Backbone:
    """`backbone`, when a blank image of its size really gives one vector of its dimension.

    Its `pool` stays only if that layer makes (1, C, 1, 1) of a feature map (1, C, h, w), once.
    """
    size, pooled = backbone.image_size, _Shapes()
    with backbone.module.get_submodule(backbone.pool or "").register_forward_hook(pooled):
        try:
            with torch.inference_mode():
                shape = tuple(backbone.module(torch.zeros(1, 3, size, size)).shape)
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:100]
            raise UsageError(
                f"backbone {backbone.name!r} does not take images of {size} pixels ({reason})."
            ) from None
    if shape != (1, backbone.dimension):
        raise UsageError(f"backbone {backbone.name!r} gives {shape}, not one vector an image.")
    return backbone if pooled.one_position() else replace(backbone, pool=None)


def at_size(backbone: Backbone, image_size: int) -> Backbone:
    """The same network and weights for images of another side in pixels.

    Raises `UsageError` where the network does not take them, as transformers with positions
    learned for one size; `load_backbone(name, image_size=...)` fits those of timm.
    """
    if image_size == backbone.image_size:
        return backbone
    if not isinstance(backbone.transform, Preprocessing):
        raise UsageError(f"the input transform of {backbone.name!r} has no other size.")
    transform = backbone.transform.at_size(image_size)
    sized = replace(
        backbone, transform=transform, preprocessing=transform.text, image_size=image_size
    )
    return checked(sized)


class _Shapes:
    """A hook that notes what a layer reads and gives."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def __call__(
        self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        self.seen.append((tuple(inputs[0].shape), tuple(output.shape)))

    def one_position(self) -> bool:
        if len(self.seen) != 1 or len(self.seen[0][0]) != 4:
            return False
        (batch, channels, _, _), after = self.seen[0]
        return after == (batch, channels, 1, 1)


class MeanPool(nn.Module):
    """The mean over all positions: (B, C, h, w) to (B, C, 1, 1)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(2, 3), keepdim=True)


class Pooled(nn.Module):
    """A network in two parts: `body` gives the feature map (B, C, h, w), `pool` (B, C, 1, 1)."""

    def __init__(self, body: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.pool = pool

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.pool(self.body(images))
        return pooled.flatten(1)


# Torchvision's networks that pool inside `forward`: their layers up to the feature map, and the
# pooling that gives the same bits.
_POOLED_IN_FORWARD: dict[str, tuple[tuple[str, ...], type[nn.Module]]] = {
    "DenseNet": (("features", "relu"), nn.AdaptiveAvgPool2d),
    "MobileNetV2": (("features",), nn.AdaptiveAvgPool2d),
    "MNASNet": (("layers",), MeanPool),
    "ShuffleNetV2": (("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"), MeanPool),
}


def without_classifier(module: nn.Module, name: str) -> int:
    """Replace the last linear layer by the identity; the number of features it read.

    A dropout right before it goes too: it is the classifier's, and would blank features while a
    head is trained. Raises `UsageError` when there is no linear layer.
    """
    leaves = [key for key, child in module.named_modules() if not list(child.children())]
    linear = [key for key in leaves if isinstance(module.get_submodule(key), nn.Linear)]
    if not linear:
        raise UsageError(f"backbone {name!r} has no linear classifier to read features before.")
    before = leaves[leaves.index(linear[-1]) - 1]
    if isinstance(module.get_submodule(before), nn.Dropout):
        put(module, before, nn.Identity())
    dimension = module.get_submodule(linear[-1]).in_features
    put(module, linear[-1], nn.Identity())
    return int(dimension)  # type: ignore[arg-type]


def put(module: nn.Module, name: str, child: nn.Module) -> None:
    """Replace the layer of `module` with the dotted `name`."""
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, child)


def in_parts(module: nn.Module) -> nn.Module:
    """`module`, or the same layers with a pooling layer where its `forward` pools by itself."""
    kind = type(module).__name__
    if kind not in _POOLED_IN_FORWARD:
        return module
    names, pool = _POOLED_IN_FORWARD[kind]
    layers: list[Any] = [getattr(module, name, nn.ReLU(inplace=True)) for name in names]
    return Pooled(nn.Sequential(*layers), MeanPool() if pool is MeanPool else pool(1))


def pool_layer(module: nn.Module) -> str | None:
    """The name of the layer that may pool the last feature map; None if none may.

    Squeeze-and-excitation blocks pool as well, but have convolutions after it; timm puts one after
    the last pooling, too, but names that by its own class.
    """
    found = None
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d) and found and not _of_timm(module, found):
            found = None
        if isinstance(layer, (nn.AdaptiveAvgPool2d, MeanPool)):
            found = name
    return found


def _of_timm(module: nn.Module, name: str) -> bool:
    parent = module.get_submodule(name.rpartition(".")[0])
    return type(parent).__name__ == "SelectAdaptivePool2d"
