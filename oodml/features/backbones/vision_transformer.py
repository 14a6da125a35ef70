"""DINOv2 and CLIP under one name each: timm's networks with the weights files of their authors."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from oodml.features.backbones.catalogue import NETWORKS
from oodml.features.backbones.network import Weights, assembled, checked
from oodml.features.backbones.registry import Backbone
from oodml.features.backbones.timm import import_timm, resize
from oodml.features.preprocessing import Preprocessing, times_255
from oodml.features.weights import State, load_state, read_state, resolve_weights
from oodml.files import file_sha256

# Mean and deviation of pixels in 0..1, of ImageNet and of the images that CLIP was trained on.
_IMAGENET_PIXELS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OPENAI_PIXELS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# OpenAI's names in the order in which they are replaced by timm's.
_OPENAI_NAMES = (
    ("conv1", "patch_embed.proj"),
    ("positional_embedding", "pos_embed"),
    ("transformer.resblocks.", "blocks."),
    ("ln_pre", "norm_pre"),
    ("ln_post", "norm"),
    ("ln_", "norm"),
    ("in_proj_", "qkv."),
    ("out_proj", "proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)


def vision_transformer(name: str, weights: Weights, image_size: int | None) -> Backbone:
    """DINOv2's class token (arXiv:2304.07193), or CLIP's projected image (arXiv:2103.00020).

    The weights file is that of Meta, or OpenAI's tensors as OpenCLIP stores them; a file in timm's
    own layout will do. The shorter side of an image is resized to the input side and the centre is
    cut out. For another side than the file's, positions are resampled: DINOv2's as Meta's code
    does, CLIP's, whose authors know one side only, as timm does.
    """
    network = NETWORKS[name]
    clip = name.startswith("clip")
    module = import_timm().create_model(network.architecture, pretrained=False)
    path = resolve_weights(network.weights, weights)
    file = read_state(path)
    renamed = _clip_in_timm(file) if clip else _without_mask(file)
    load_state(module, renamed, path, name, file=file)
    size = image_size or network.image_size
    if size != module.patch_embed.img_size[0]:
        positions = module.pos_embed.detach()
        resize(module, name, size)
        if not clip:
            module.pos_embed.data.copy_(_resampled(positions, module.patch_embed.grid_size[0]))
    mean, std = _OPENAI_PIXELS if clip else _IMAGENET_PIXELS
    transform = Preprocessing(size, size, "bicubic", True, times_255(mean), times_255(std))
    backbone = assembled(name, module, transform, network.dimension, file_sha256(path), None)
    return checked(backbone)


def _resampled(positions: torch.Tensor, side: int) -> torch.Tensor:
    """DINOv2's positions (1, 1 + n^2, C) for side^2 patches; the class token's stay.

    Meta's models/vision_transformer.py: bicubic without antialiasing, the scale a little too large.
    """
    before = math.isqrt(positions.shape[1] - 1)
    grid = positions[:, 1:].reshape(1, before, before, -1).permute(0, 3, 1, 2)
    scale = (side + 0.1) / before
    grid = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def _without_mask(state: State) -> State:
    """The tensors of DINOv2 without the token that hid patches in its training."""
    return {key: value for key, value in state.items() if key != "mask_token"}


def _clip_in_timm(state: State) -> State:
    """CLIP's image tower and projection under timm's names; other files as they are."""
    if "visual.class_embedding" not in state:
        return state
    tower = {}
    for key, value in state.items():
        key = key.removeprefix("visual.") if key.startswith("visual.") else ""
        if key == "proj":
            tower["head.weight"], tower["head.bias"] = value.T, torch.zeros(value.shape[-1])
        elif key == "class_embedding":
            tower["cls_token"] = value[None, None]
        elif key:
            value = value[None] if key == "positional_embedding" else value
            for openai, timm in _OPENAI_NAMES:
                key = key.replace(openai, timm)
            tower[key] = value
    return tower
