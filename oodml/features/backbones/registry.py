"""Named networks: what turns an image into a vector, with weights and input transform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from oodml.errors import UsageError
from oodml.features.backbones.catalogue import NETWORKS

if TYPE_CHECKING:
    from torch import Tensor, nn

# Sides of inputs in pixels: most networks have nothing left of fewer, and none in use sees more.
LEAST_SIDE, MOST_SIDE = 16, 4096
# The backbones with a module of their own; the modules import torch.
_HOMES = {"inception_v3": "inception", "efficientnet_lite0": "efficientnet_lite", "tiny": "tiny"}
FAMILIES = {
    "NAME": "any other classifier of torchvision, what its last linear layer reads: vit_b_16, ...",
    "timm:NAME": "any other network of timm, pooled: timm:vit_small_patch16_224.dino, ...",
}


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network without its classifier, and everything that decides what it computes.

    `module` maps (B, 3, H, W) float32 from `transform` to (B, `dimension`) float32; it is in eval
    mode, unfolded and trainable. `transform` maps a PIL RGB image to (3, H, W) float32. `weights`
    is a SHA-256, `preprocessing` the canonical text of the transform, `image_size` H = W. `pool`
    names the layer of `module` that makes (B, C, 1, 1) of the feature map (B, C, h, w), so that
    another pooling can take its place; None where there is no such layer (tokens, attention).
    """

    name: str
    module: nn.Module
    transform: Callable[..., Tensor]
    dimension: int
    weights: str
    preprocessing: str
    image_size: int
    pool: str | None = None


def load_backbone(
    name: str = "inception_v3",
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    resize: str | None = None,
) -> Backbone:
    """The named network with trained weights, in eval mode on the CPU.

    `weights` names a file (.pth, .pt, .safetensors), else the known places are searched and at
    last the file is downloaded. `image_size` replaces the network's own input side in pixels.
    `resize` ("pytorch-fid", the default, "torch-fidelity" or "clean-fid") chooses whose resizing
    `inception_fid` repeats. Raises `UsageError` for an unknown name, `WeightsNotFound` or
    `DataError` for the weights.
    """
    if image_size is not None and not LEAST_SIDE <= image_size <= MOST_SIDE:
        raise UsageError(
            f"image size {image_size}: give a side of {LEAST_SIDE} to {MOST_SIDE} pixels."
        )
    if name == "inception_fid":
        return _builder("inception", name)(weights, image_size, resize)
    if resize is not None:
        raise UsageError(f"resize {resize!r} goes with backbone inception_fid only, not {name!r}.")
    if name in _HOMES:
        return _builder(_HOMES[name], name)(weights, image_size)
    if name in NETWORKS and NETWORKS[name].architecture:
        return _builder("vision_transformer", "vision_transformer")(name, weights, image_size)
    if name.startswith("timm:"):
        return _builder("timm", "from_timm")(name, weights, image_size)
    return _builder("torchvision", "from_torchvision")(name, weights, image_size)


def _builder(module: str, function: str) -> Callable[..., Backbone]:
    home = import_module(f"oodml.features.backbones.{module}")
    return cast("Callable[..., Backbone]", getattr(home, function))


def backbone_names() -> list[tuple[str, str]]:
    """Pairs of name and description; the last entries stand for whole families."""
    named = [(network.name, network.summary) for network in NETWORKS.values()]
    return [*named, *FAMILIES.items()]
