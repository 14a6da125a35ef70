"""The tiny backbone: a convolutional network small enough for tests and quick trials."""

from __future__ import annotations

import math

import torch
from torch import nn

from oodml.features.backbones.catalogue import KnownWeights
from oodml.features.backbones.network import MeanPool, Pooled, Weights, assembled
from oodml.features.backbones.registry import Backbone
from oodml.features.preprocessing import Preprocessing
from oodml.features.weights import (
    load_state,
    read_state,
    resolve_weights,
    state_sha256,
)
from oodml.files import file_sha256
from oodml.seeding import generator

_CHANNELS = (3, 16, 32, 48)


def tiny(weights: Weights, image_size: int | None) -> Backbone:
    """Three convolutions, 32 pixels in, 48 features out, 19,056 weights; no download.

    Without a file the weights are random, from one fixed seed, and the same on every machine.
    """
    transform = Preprocessing(32, 32, "bilinear", True, (127.5,) * 3, (64.0,) * 3)
    if image_size is not None:
        transform = transform.at_size(image_size)
    blocks = [_block(_CHANNELS[at], _CHANNELS[at + 1], last=at == 2) for at in range(3)]
    module = Pooled(nn.Sequential(*blocks), MeanPool())
    if weights is None:
        _draw(module)
        digest = state_sha256(module.state_dict())
    else:
        path = resolve_weights(KnownWeights("tiny", ()), weights)
        load_state(module, read_state(path), path, "tiny")
        digest = file_sha256(path)
    return assembled("tiny", module, transform, _CHANNELS[-1], digest, "pool")


def _block(channels: int, filters: int, last: bool) -> nn.Sequential:
    layers = [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Identity() if last else nn.MaxPool2d(2))


@torch.no_grad()
def _draw(module: nn.Module) -> None:
    """He initialisation by NumPy: torch's normal numbers depend on the processor's vector width."""
    random = generator(0, "tiny backbone")
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            deviation = math.sqrt(2 / (layer.in_channels * 9))
            values = random.standard_normal(layer.weight.shape) * deviation
            layer.weight.copy_(torch.from_numpy(values))
