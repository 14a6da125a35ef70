"""Inception v3 in its two variants: torchvision's (ImageNet) and the one that FID papers use.

Parameter names and shapes are the same; pooling and the number of classes differ (arXiv:1512.00567;
the FID variant repeats TensorFlow's graph of 2015-12-05, as pytorch-fid ported it).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import inception as blocks

from oodml.errors import DataError, UsageError, unknown_name
from oodml.features.backbones.catalogue import NETWORKS
from oodml.features.backbones.network import MeanPool, Weights, assembled
from oodml.features.backbones.registry import Backbone
from oodml.features.preprocessing import Preprocessing
from oodml.features.weights import State, load_state, read_state, resolve_weights
from oodml.files import file_sha256

CLASSES = {"inception_v3": 1000, "inception_fid": 1008}
# What each peer does between a decoded image and the network (fid.md, sections 1 and 6).
FID_TRANSFORMS = {
    "pytorch-fid": Preprocessing(299, None, "bilinear", False, (127.5,) * 3, (127.5,) * 3),
    "torch-fidelity": Preprocessing(299, None, "bilinear_tf1", False, (128.0,) * 3, (128.0,) * 3),
    "clean-fid": Preprocessing(299, None, "bicubic_float", True, (128.0,) * 3, (128.0,) * 3),
}


def inception_v3(weights: Weights, image_size: int | None) -> Backbone:
    """Torchvision's Inception v3, resized to 342 and cropped to 299 as its weights expect."""
    # [-1, 1] is what torchvision's `transform_input` makes of ImageNet-normalised pixels.
    transform = Preprocessing(299, 342, "bilinear", True, (127.5,) * 3, (127.5,) * 3)
    return _inception("inception_v3", weights, transform, image_size)


def inception_fid(weights: Weights, image_size: int | None, resize: str | None) -> Backbone:
    """The FID network, with the input transform of the peer named by `resize`."""
    if resize not in (None, *FID_TRANSFORMS):
        raise unknown_name("resize", str(resize), FID_TRANSFORMS)
    transform = FID_TRANSFORMS[resize or "pytorch-fid"]
    return _inception("inception_fid", weights, transform, image_size)


def _inception(
    name: str, weights: Weights, transform: Preprocessing, image_size: int | None
) -> Backbone:
    if image_size is not None:
        # The last pooling needs 75 pixels to leave one position.
        if image_size < 75:
            raise UsageError(f"{name} needs at least 75 pixels, not {image_size}.")
        transform = transform.at_size(image_size)
    path = resolve_weights(NETWORKS[name].weights, weights)
    # Without memory first: drawing 24 million random numbers to replace them takes half a second.
    with torch.device("meta"):
        module = Inception(name)
    module = module.to_empty(device="cpu")
    load_state(module, features_only(read_state(path), name, path), path, name)
    return assembled(name, module, transform, NETWORKS[name].dimension, file_sha256(path), "pool")


class AveragePool(nn.Module):
    """3x3 average at stride 1; the FID variant leaves the padding out of the mean."""

    def __init__(self, count_padding: bool) -> None:
        super().__init__()
        self.count_padding = count_padding

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(maps, 3, 1, 1, count_include_pad=self.count_padding)


class BlockA(blocks.InceptionA):  # type: ignore[misc]
    """35x35 block with the pooling of the variant."""

    def __init__(self, channels: int, pool_features: int, pool: nn.Module) -> None:
        super().__init__(channels, pool_features)
        self.pool = pool

    def _forward(self, maps: torch.Tensor) -> list[torch.Tensor]:
        five = self.branch5x5_2(self.branch5x5_1(maps))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(maps)))
        return [self.branch1x1(maps), five, three, self.branch_pool(self.pool(maps))]


class BlockC(blocks.InceptionC):  # type: ignore[misc]
    """17x17 block with the pooling of the variant."""

    def __init__(self, channels: int, channels_7x7: int, pool: nn.Module) -> None:
        super().__init__(channels, channels_7x7)
        self.pool = pool

    def _forward(self, maps: torch.Tensor) -> list[torch.Tensor]:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(maps)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(maps)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return [self.branch1x1(maps), seven, double, self.branch_pool(self.pool(maps))]


class BlockE(blocks.InceptionE):  # type: ignore[misc]
    """8x8 block with the pooling of the variant."""

    def __init__(self, channels: int, pool: nn.Module) -> None:
        super().__init__(channels)
        self.pool = pool

    def _forward(self, maps: torch.Tensor) -> list[torch.Tensor]:
        three = self.branch3x3_1(maps)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(maps))
        return [
            self.branch1x1(maps),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(maps)),
        ]


class Inception(nn.Module):
    """(B, 3, 299, 299) in [-1, 1] to the (B, 2048) pooled features of either variant."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        fid = variant == "inception_fid"
        pool = AveragePool(count_padding=not fid)
        last_pool = nn.MaxPool2d(3, stride=1, padding=1) if fid else pool
        self.Conv2d_1a_3x3 = blocks.BasicConv2d(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = blocks.BasicConv2d(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = blocks.BasicConv2d(32, 64, kernel_size=3, padding=1)
        self.maxpool1 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Conv2d_3b_1x1 = blocks.BasicConv2d(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = blocks.BasicConv2d(80, 192, kernel_size=3)
        self.maxpool2 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Mixed_5b = BlockA(192, 32, pool)
        self.Mixed_5c = BlockA(256, 64, pool)
        self.Mixed_5d = BlockA(288, 64, pool)
        self.Mixed_6a = blocks.InceptionB(288)
        self.Mixed_6b = BlockC(768, 128, pool)
        self.Mixed_6c = BlockC(768, 160, pool)
        self.Mixed_6d = BlockC(768, 160, pool)
        self.Mixed_6e = BlockC(768, 192, pool)
        self.Mixed_7a = blocks.InceptionD(768)
        self.Mixed_7b = BlockE(1280, pool)
        self.Mixed_7c = BlockE(2048, last_pool)
        self.pool = MeanPool()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = images
        for layer in self.children():
            maps = layer(maps)
        return maps.flatten(1)


def variant_of(state: State, path: Path) -> str:
    """Which network a weights file holds, by its classes and, without a classifier, by its name."""
    if "fc.weight" in state:
        rows = int(state["fc.weight"].shape[0])
        for variant, classes in CLASSES.items():
            if rows == classes:
                return variant
        raise DataError(
            f"{path} is no known Inception: fc.weight has {rows} rows; inception_v3 has 1000 "
            "and inception_fid 1008."
        )
    if any(key.startswith("AuxLogits.") for key in state) or "google" in path.name:
        return "inception_v3"
    if "2015-12-05" in path.name:
        return "inception_fid"
    raise DataError(
        f"{path} does not tell which Inception it holds (no fc.weight): give the whole file."
    )


def features_only(state: State, variant: str, path: Path) -> State:
    """`state` without the classifiers; `DataError` when it belongs to the other variant."""
    found = variant_of(state, path) if "Conv2d_1a_3x3.conv.weight" in state else variant
    if found != variant:
        raise DataError(
            f"{path} holds the network {found} (fc.weight has {CLASSES[found]} rows), not "
            f"{variant}: their features are not comparable; give backbone={found!r}."
        )
    classifiers = ("AuxLogits.", "fc.")
    return {key: value for key, value in state.items() if not key.startswith(classifiers)}
