"""Named frozen networks: what turns an image into a vector, with weights and input transform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from oodml.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

# Name -> what it is; the functions that build them stand in networks.py, which imports torch.
_DESCRIPTIONS = {
    "inception_v3": "Inception v3 of torchvision, ImageNet, 299 pixels, 2048-d pooled (default)",
    "inception_fid": "the Inception that FID papers use (TensorFlow 2015-12-05), 299 pixels, 2048-d",
    "resnet50": "ResNet-50 of torchvision, ImageNet, 224 pixels, 2048-d pooled",
    "efficientnet_lite0": "EfficientNet-Lite0, ImageNet, 224 pixels, 1280-d, no download (extra demo)",
}
_FAMILIES = {
    "NAME": "any other classification network of torchvision, input of its last linear layer",
    "timm:NAME": "any network of timm, pooled (extra timm)",
}


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network without its classifier, and everything that decides what it computes.

    `module` maps (B, 3, H, W) float32 from `transform` to (B, `dimension`) float32; it is in eval
    mode, unfolded and trainable. `transform` maps a PIL RGB image to (3, H, W) float32. `weights`
    is a SHA-256, `preprocessing` the canonical text of the transform, `image_size` H = W.
    """

    name: str
    module: nn.Module
    transform: Callable[..., Tensor]
    dimension: int
    weights: str
    preprocessing: str
    image_size: int


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
    networks = import_module("oodml.fid.networks")
    if image_size is not None and image_size < 16:
        raise UsageError(f"image size {image_size} is too small: give at least 16 pixels.")
    if resize is not None and name != "inception_fid":
        raise UsageError(f"resize {resize!r} goes with backbone inception_fid only, not {name!r}.")
    if name == "inception_fid":
        return cast("Backbone", networks.inception_fid(weights, image_size, resize))
    if name.startswith("timm:"):
        return cast("Backbone", networks.from_timm(name, weights, image_size))
    build = {
        "inception_v3": networks.inception_v3,
        "efficientnet_lite0": networks.efficientnet_lite0,
    }.get(name)
    if build is not None:
        return cast("Backbone", build(weights, image_size))
    return cast("Backbone", networks.from_torchvision(name, weights, image_size))


def backbone_names() -> list[tuple[str, str]]:
    """Pairs of name and description; the last entries stand for whole families."""
    return [*_DESCRIPTIONS.items(), *_FAMILIES.items()]
